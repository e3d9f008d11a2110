"""A step as a GPU has it: it never waits for the device, and comes to the same as the step that does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_platform import chosen
from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs.env import Env
from rl_platform.envs.randomness import EnvRandom
from rl_platform.envs.starts import LOOK_EVERY
from rl_platform.envs.trial import Watch
from rl_platform.errors import NonFiniteError
from rl_platform.evaluate import evaluate
from rl_platform.trainer import Trainer
from tests.envs.test_device import NAMES
from tests.envs.test_every_env import _build, random_actions
from tests.fakes import session, small_ppo
from tests.tape import Tape
from tests.waiting import looking, may_look, run_behind

ARMS = ("mode=relative_joint_position", "rotation=yaw", "rotation=full", "mode=absolute_ee_pose")
EPISODE = 20  # steps, more than between two looks at the starts
DELAYED = (
    "env.action_delay_steps=[0,2]",
    "env.observations.policy.tool_pos={scale:1.0,noise:0.01,history_steps:3,delay_steps:[0,2]}",
)


def make(name: str, *overrides: str) -> Env:
    config = typed("env", compose([f"env={name}", *overrides]).env)
    config.episode_length_s = EPISODE * config.timestep * config.substeps
    env = _build(config, 6, 3, 1, 0)
    env.episode_length[:3] = torch.tensor([3, 8, 12])
    return env


def make_behind(monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str) -> Env:
    with monkeypatch.context() as patch:
        run_behind(patch)
        return make(name, *overrides)


def free_what_may_look(env: Env) -> None:
    """The CPU's own simulation does look; and starts are made by ids, at every 16th step."""
    physics: Any = env.physics
    starts: Any = env._starts
    physics.step, physics.state_dict = may_look(physics.step), may_look(physics.state_dict)
    starts._make_missing = may_look(starts._make_missing)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *((name, ()) for name in NAMES),
        ("lift", DELAYED),
        *(("lift", (f"env.actions.arm.{arm}",)) for arm in ARMS),
    ],
)
def test_nothing_in_a_step_waits(
    monkeypatch: pytest.MonkeyPatch, name: str, overrides: tuple[str, ...]
) -> None:
    env = make_behind(monkeypatch, name, *overrides)
    run_behind(monkeypatch)
    free_what_may_look(env)
    actions = random_actions(env, EPISODE + 6)
    env.step(actions[0])  # constants are made once
    with looking():
        for action in actions[1:]:
            env.step(action)
    env.check()
    assert env.episode_log()["Train/episodes"] >= 6


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("cartpole", ()), ("lift", ()), ("push_cube", ()), ("half_cheetah", ()), ("lift", DELAYED)],
)
def test_it_comes_to_the_same(monkeypatch: pytest.MonkeyPatch, name: str, overrides: tuple[str, ...]) -> None:
    behind, other = make_behind(monkeypatch, name, *overrides), make(name, *overrides)
    assert behind._by_mask and not other._by_mask
    since = torch.full((6,), EPISODE)
    for action in random_actions(other, 3 * EPISODE):
        found, expected = behind.step(action), other.step(action)
        since += 1
        done = expected[2] | expected[3]
        assert (since[done] >= LOOK_EVERY).all(), "an episode so short may begin as the last one did"
        since[done] = 0
        for group, rows in expected[0].items():
            assert torch.equal(found[0][group], rows), group
            assert torch.equal(found[4]["final_obs"][group], expected[4]["final_obs"][group])
        for one, two in zip(found[1:4], expected[1:4], strict=True):
            assert torch.equal(one, two)
    logs = behind.episode_log(), other.episode_log()
    assert logs[0] == pytest.approx(logs[1], rel=1e-12)
    assert logs[0]["Train/episodes"] > 6


def test_a_nan_is_told_by_check_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_behind(monkeypatch, "lift")
    actions = random_actions(env, 3)
    env.step(actions[0])
    env.check()
    env.commands["goal"][4] = torch.nan
    env.step(actions[1])
    actions[2, 0] = torch.nan  # what a policy makes of it, in the end everywhere
    env.step(actions[2])
    with pytest.raises(NonFiniteError, match=r"reward term goal_tracking is .* environment 4") as caught:
        env.check()
    assert caught.value.env_id == 4
    env.check()  # what was told once is forgotten


def test_a_nan_in_an_evaluation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_behind(monkeypatch, "lift")

    def policy(obs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.full((6, env.action_dim), torch.nan)

    with pytest.raises(NonFiniteError, match="the policy's action is not finite in environment 0"):
        evaluate(env, policy, episodes=6, seed=1)


def test_the_first_bad_column_is_named() -> None:
    watch = Watch(torch.device("cpu"))
    watch.look()
    watch.add(("a", "b", "b"), torch.zeros(4, 3))
    watch.add(("c",), torch.zeros(4, 1))
    watch.look()
    bad = torch.zeros(4, 3)
    bad[2, 2] = torch.nan
    watch.add(("c",), torch.zeros(4, 1))
    watch.add(("a", "b", "b"), bad)
    watch.add(("c",), torch.full((4, 1), torch.inf))
    watch.add(("a", "b", "b"), torch.full((4, 3), torch.nan))
    with pytest.raises(NonFiniteError, match="b is not finite in environment 2"):
        watch.look()


def test_a_mask_moves_only_its_streams() -> None:
    one, other = (EnvRandom(5, 0, torch.device("cpu")) for _ in range(2))
    one.seed(4)
    other.seed(4)
    mask = torch.tensor([True, False, True, False, False])
    ids = mask.nonzero()[:, 0]
    for size in (1, 3, 20):
        assert torch.equal(one.uniform(mask, size)[ids], other.uniform(ids, size))
    everyone = torch.arange(5)
    assert torch.equal(one.uniform(everyone, 2), other.uniform(everyone, 2))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_mask_does_what_its_ids_do(dim: int) -> None:
    mask = torch.tensor([True, False, True, False])
    ids = mask.nonzero()[:, 0]
    start, own = torch.randn(2, 4, 4, 3)
    results = []
    for which, rows in ((mask, own), (ids, own.index_select(dim, ids))):
        filled, written = start.clone(), start.clone()
        chosen.fill(filled, which, 7.0, dim)
        chosen.put(written, which, rows, dim)
        results.append((filled, written))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, start)
    assert torch.equal(chosen.replaced(start, mask, own), chosen.replaced(start, ids, own[ids]))


def test_an_iteration_waits_as_often_however_long_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_behind(monkeypatch)
    seen = []
    for steps in (8, 24):
        env = make("lift")
        free_what_may_look(env)
        one = Trainer(env, small_ppo(env, rollout_steps=steps), session(tmp_path, max_iterations=1))
        one.fit()  # constants are made once
        with looking(allowed=99) as looks:
            one._iterate()
        seen.append(looks.seen)
    # what was not finite, the episodes' sums, and an update's three
    assert seen == [5, 5]


def test_a_nan_amid_a_collection_is_kept_with_the_steps_that_led_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_behind(monkeypatch)
    env = make("lift")
    one = Trainer(env, small_ppo(env), session(tmp_path, max_iterations=3))
    one.fit()
    env.commands["goal"][2] = torch.nan
    with pytest.raises(NonFiniteError, match=r"(?s)goal_tracking is .* environment 2\n.*--replay"):
        one._iterate()
    dump = torch.load(tmp_path / "nan_dump.pt")
    again = make("lift")
    again.load_state_dict(dump["env"])
    again.step(dump["actions"][0])
    with pytest.raises(NonFiniteError, match="environment 2"):
        again.check()


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *((name, ()) for name in NAMES),
        ("lift", DELAYED),
        *(("lift", (f"env.actions.arm.{arm}",)) for arm in ARMS),
    ],
)
def test_a_recorded_step_comes_to_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, overrides: tuple[str, ...]
) -> None:
    recorded, plain = (make_behind(monkeypatch, name, *overrides) for _ in range(2))
    run_behind(monkeypatch)
    tapes: list[Tape] = []
    recorded.record(lambda: Tape(tapes))
    actions = random_actions(plain, 3 * EPISODE)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step, action in enumerate(actions):
        if step == EPISODE:  # a new seed, as an evaluation begins with
            assert torch.equal(recorded.reset(9)["policy"], plain.reset(9)["policy"])
            recorded.randomize_episode_lengths()
            plain.randomize_episode_lengths()
            recorded.reward_weights = {term: 2.0 for term in recorded.reward_weights}
            plain.reward_weights = dict(recorded.reward_weights)
        if step == 2 * EPISODE:
            plain.load_state_dict(recorded.state_dict())
            recorded.load_state_dict(recorded.state_dict())
        found, expected = recorded.step(action), plain.step(action)
        for group, rows in expected[0].items():
            assert torch.equal(found[0][group], rows), (group, step)
            assert torch.equal(found[4]["final_obs"][group], expected[4]["final_obs"][group])
        for one, two in zip(found[1:4], expected[1:4], strict=True):
            assert torch.equal(one, two)
        for section in ("rewards", "metrics"):
            assert found[4][section].keys() == expected[4][section].keys()
        for term, share in expected[4]["rewards"].items():
            assert torch.equal(found[4]["rewards"][term], share), term
        if expected[4]["success"] is not None:
            assert torch.equal(found[4]["success"], expected[4]["success"])
        kept.append((found[0]["policy"], expected[0]["policy"]))
    assert all(torch.equal(one, two) for one, two in kept), "what a step returned was overwritten"
    assert len(tapes) == 2
    assert recorded.episode_log() == plain.episode_log()


def test_a_nan_in_a_recorded_step_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_behind(monkeypatch, "lift")
    env.record(Tape)
    actions = random_actions(env, 8)
    for action in actions[:6]:
        env.step(action)
    env.check()
    env.commands["goal"][4] = torch.nan
    env.step(actions[6])
    actions[7, 0] = torch.nan  # later
    env.step(actions[7])
    with pytest.raises(NonFiniteError, match=r"reward term goal_tracking is .* environment 4"):
        env.check()


def test_a_task_that_does_not_want_to_be_recorded_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_behind(monkeypatch, "cartpole")
    env.task = dataclasses.replace(env.task, recorded=False)
    tapes: list[Tape] = []
    env.record(lambda: Tape(tapes))
    for action in random_actions(env, 5):
        env.step(action)
    assert not tapes


def _counting(env: Env) -> None:
    read, readings = env._read, 0

    def count() -> Any:
        nonlocal readings
        readings += 1
        return read()

    env._read = count


def _another_memory(env: Env) -> None:
    def remember(env: Env, state: Any) -> None:
        env.memory["balanced"] = env.memory["balanced"] + 1.0

    env.task = dataclasses.replace(env.task, remember=remember)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(_counting, "readings of the reader"), (_another_memory, "balanced of env.memory")],
)
def test_what_a_recording_would_not_see_is_told_and_done_without(
    monkeypatch: pytest.MonkeyPatch, spoil: Any, told: str
) -> None:
    env, plain = (make_behind(monkeypatch, "cartpole") for _ in range(2))
    spoil(env)
    spoil(plain)
    tapes: list[Tape] = []
    env.record(lambda: Tape(tapes))
    with pytest.warns(UserWarning, match=f"{told} is another after each"):
        for action in random_actions(env, 5):
            found, expected = env.step(action), plain.step(action)
            assert torch.equal(found[0]["policy"], expected[0]["policy"])
    assert len(tapes) == 1, "what comes before the physics"
