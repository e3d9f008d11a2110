"""Starts that are made ahead: nobody notices when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rl_platform.envs.env import Env
from tests.envs.test_every_env import make, random_actions


@pytest.fixture(autouse=True)
def as_within_a_step() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tensors(env: Env) -> dict[str, torch.Tensor]:
    """All that belongs to the running episodes."""
    rows = env.physics.rows(env.all_ids)
    assert rows is not None
    own = {name: values.clone() for name, values in env.episode_tensors().items()}
    return own | {f"simulation {i}": values for i, values in enumerate(rows)}


@pytest.mark.parametrize("name", ["lift", "walker12", "humanoid_v5"])
def test_making_starts_leaves_the_running_episodes_alone(name: str) -> None:
    env, twin = make(name), make(name)
    actions = random_actions(env, 10)
    for action in actions[:5]:
        env.step(action)
        twin.step(action)
    before = tensors(env)
    assert env._starts._make(torch.tensor([1, 2, 5]))
    after = tensors(env)
    for key, values in before.items():
        assert torch.equal(values, after[key]), key
    for action in actions[5:]:
        env.step(action)
        twin.step(action)
    expected = tensors(twin)
    for key, values in tensors(env).items():
        assert torch.equal(values, expected[key]), key


@pytest.mark.parametrize("name", ["lift", "walker12", "half_cheetah"])
def test_a_start_is_the_same_whenever_it_is_made(name: str) -> None:
    early, late, alone = make(name), make(name), make(name)
    early._starts._make(early.all_ids)
    ids = torch.tensor([0, 3, 4])
    late.forget_starts()
    for env in (early, late):
        env._restart(ids)
    for env_id in (3, 0, 4):
        alone._restart(torch.tensor([env_id]))
        alone.forget_starts()
    for env in (late, alone):
        for (key, values), expected in zip(tensors(env).items(), tensors(early).values(), strict=True):
            assert torch.equal(values[ids], expected[ids]), key


def test_starts_differ_and_go_on_after_a_resume() -> None:
    env, other = make("lift"), make("lift", seed=99)
    first = env._restart(env.all_ids)["policy"]
    saved = env.state_dict()
    second = env._restart(env.all_ids)["policy"]
    assert len(torch.cat([first, second]).unique(dim=0)) == 12
    other.load_state_dict(saved)
    assert torch.equal(other._restart(other.all_ids)["policy"], second)


def test_a_curriculum_that_changes_events_has_the_starts_made_anew() -> None:
    env = make("lift")
    env._starts._make(env.all_ids)
    env._happenings.events["reset_cube"][2].update(x=[0.55, 0.56], training_margin=0.0)
    env.forget_starts()
    env._restart(env.all_ids)
    x = env._state.cube_pos[:, 0]
    assert x.min() >= 0.55 - 1e-6


def test_models_of_their_own_are_started_one_by_one() -> None:
    env = make("lift", 4, 3, "env.events.cube_mass={range:[0.03,0.2]}")
    mass = env.physics.expand("body_mass").clone()
    env._restart(torch.tensor([1]))
    changed = (env.physics.expand("body_mass") != mass).any(1)
    assert changed.tolist() == [False, True, False, False]
