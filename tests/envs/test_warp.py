"""Our tasks on MuJoCo Warp (its CPU device) against the same on the CPU backend."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import mujoco
import pytest
import torch

from rl_platform import registry
from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env, make_env_for
from rl_platform.envs.env import Env
from rl_platform.envs.transfer import TransferEnv
from rl_platform.errors import UserError
from tests.envs.test_every_env import random_actions
from tests.waiting import looking, may_look, run_behind

NUM_ENVS, STEPS = 6, 12
NAMES = ("cartpole", "reach", "lift", "lift_isaac", "push_cube", "walker12", "humanoid", "half_cheetah")


def make(name: str, physics: str, *overrides: str, num_envs: int = NUM_ENVS, device: str = "cpu") -> Env:
    """Build a task with as many Newton iterations as it takes: on the way the two backends differ."""
    pytest.importorskip("mujoco_warp", reason="MuJoCo Warp is not installed: pip install -e '.[gpu]'")
    wanted = [f"env={name}", f"env.physics={physics}", "env.warp.iterations=null", *overrides]
    config = typed("env", compose(wanted).env)
    task = registry.load("env", config.name).TASK

    def scene(config: Any, looks: str = "none") -> mujoco.MjSpec:
        spec = task.scene(config, looks)
        spec.option.iterations = 100
        return spec

    exact = dataclasses.replace(task, scene=scene)
    return make_env(config, exact, num_envs=num_envs, seed=3, device=device, num_threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_observations_rewards_and_ends_are_those_of_the_cpu(name: str) -> None:
    ours, reference = make(name, "warp"), make(name, "cpu")
    for group, rows in ours.reset(seed=5).items():
        torch.testing.assert_close(rows, reference.reset(seed=5)[group], rtol=1e-4, atol=1e-4)
    ours.episode_length[2] = reference.episode_length[2] = ours.max_episode_steps - 4
    for step, action in enumerate(random_actions(ours, STEPS)):
        found, expected = ours.step(action), reference.step(action)
        for group, rows in expected[0].items():
            torch.testing.assert_close(found[0][group], rows, rtol=0.01, atol=0.01, msg=f"{group}, {step}")
        for term, share in expected[4]["rewards"].items():
            torch.testing.assert_close(found[4]["rewards"][term], share, rtol=0.01, atol=0.01, msg=term)
        assert torch.equal(found[2], expected[2])
        assert torch.equal(found[3], expected[3])
    assert ours.episode_length[2] == 8
    ours.episode_log()


@pytest.mark.slow
def test_randomised_fields_come_to_the_same_motion() -> None:
    drawn = (
        "env.events.cube_mass={range: [0.03, 0.2]}",
        "env.events.cube_friction={range: [0.6, 1.2]}",
        "env.events.start_grasped.probability=0.5",
    )
    ours, reference = make("lift", "warp", *drawn), make("lift", "cpu", *drawn)
    cube = ours.physics.model.body("cube").id
    masses = ours.physics.expand("body_mass")[:, cube]
    assert masses.std() > 0.01
    torch.testing.assert_close(masses.double(), reference.physics.expand("body_mass")[:, cube])
    for action in random_actions(ours, STEPS):
        found, expected = ours.step(action)[0], reference.step(action)[0]
        torch.testing.assert_close(found["policy"], expected["policy"], rtol=0.01, atol=0.01)


@pytest.mark.slow
def test_a_diverged_simulation_ends_its_episode_alone() -> None:
    env, twin = make("lift", "warp"), make("lift", "warp")
    env.physics.data("qvel")[4, 0] = float("nan")
    action = random_actions(env, 1)[0]
    obs, reward, terminated, _, _ = env.step(action)
    expected, *_ = twin.step(action)
    assert terminated.tolist() == [False] * 4 + [True, False]
    assert torch.isfinite(reward).all()
    others = [0, 1, 2, 3, 5]
    assert torch.equal(obs["policy"][others], expected["policy"][others])
    assert env.episode_log()["Episode_Termination/diverged"] == 1.0


@pytest.mark.slow
def test_a_saved_environment_continues_bit_for_bit() -> None:
    env = make("lift", "warp")
    actions = random_actions(env, 20)
    env.episode_length[1] = env.max_episode_steps - 15
    for action in actions[:10]:
        env.step(action)
    saved = env.state_dict()
    expected = [env.step(action)[0]["policy"] for action in actions[10:]]
    other = make("lift", "warp")
    other.load_state_dict(saved)
    for action, rows in zip(actions[10:], expected, strict=True):
        assert torch.equal(other.step(action)[0]["policy"], rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [("lift", ("env.events.cube_mass={range: [0.03, 0.2]}",)), ("reach", ()), ("half_cheetah", ())],
)
def test_restarts_by_a_mask_are_those_by_ids(
    monkeypatch: pytest.MonkeyPatch, name: str, overrides: tuple[str, ...]
) -> None:
    """What a GPU has: nothing in a step waits, models of their own included."""
    with monkeypatch.context() as patch:
        run_behind(patch)
        behind = make(name, "warp", *overrides)
    other = make(name, "warp", *overrides)
    last = other.max_episode_steps
    for env in (behind, other):
        env.episode_length[:] = last - torch.tensor([2, 3, 5, 100, 100, 100])
    starts: Any = behind._starts
    starts._make_missing = may_look(starts._make_missing)
    run_behind(monkeypatch)
    ends = 0
    for step, action in enumerate(random_actions(other, STEPS)):
        with looking() if step else nullcontext():  # constants are made once
            found = behind.step(action)
        expected = other.step(action)
        ends += int((expected[2] | expected[3]).sum())
        assert torch.equal(found[0]["policy"], expected[0]["policy"])
        assert torch.equal(found[1], expected[1])
    assert ends == 3
    for field, values in other.physics._expanded.items():  # type: ignore[attr-defined]
        assert torch.equal(behind.physics.expand(field), values), field
    behind.check()


@pytest.mark.slow
def test_a_room_too_small_ends_the_iteration_with_the_key_to_raise() -> None:
    env = make("walker12", "warp", "env.warp.njmax=4")
    for action in random_actions(env, 30):
        env.step(action)
    with pytest.raises(UserError, match=r"env\.warp\.njmax: more than 4 .*write env\.warp\.njmax=8"):
        env.episode_log()


def test_what_warp_cannot_simulate_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match=r"env=.*humanoid_v5.*PGS.*\n.*env\.physics=cpu"):
        make("humanoid_v5", "warp")


def test_without_the_extra_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rl_platform.physics.warp", None)
    config = typed("env", compose(["env=cartpole"]).env)
    config.physics = "warp"  # the check of the configuration, which says it first, is behind us
    task = registry.load("env", config.name).TASK
    with pytest.raises(UserError, match=r"pip install -c constraints.txt -e '\.\[gpu\]'"):
        make_env(config, task, num_envs=2, seed=0, device="cpu", num_threads=1)


def test_a_transferred_environment_is_the_same_one() -> None:
    config = typed("env", compose(["env=cartpole", "env.physics=cpu"]).env)
    task = registry.load("env", config.name).TASK
    sizes: dict[str, Any] = {"num_envs": 4, "seed": 0, "num_threads": 1}
    plain = make_env(config, task, device="cpu", **sizes)
    moved = TransferEnv(make_env(config, task, device="cpu", **sizes), torch.device("cpu"))
    assert torch.equal(plain.reset(seed=1)["policy"], moved.reset(seed=1)["policy"])
    for action in random_actions(plain, 5):
        expected, found = plain.step(action), moved.step(action)
        assert torch.equal(expected[0]["policy"], found[0]["policy"])
        assert torch.equal(expected[1], found[1])
        assert set(found[4]) == set(expected[4])
    assert make_env_for(config, task, device="cpu", **sizes).device.type == "cpu"


def test_tensors_are_moved_once_to_the_learners_device() -> None:
    """On a device whose tensors have no values; none may be left behind."""
    config = typed("env", compose(["env=cartpole", "env.physics=cpu"]).env)
    task = registry.load("env", config.name).TASK
    env = make_env_for(config, task, device="meta", num_envs=4, seed=0, num_threads=1)
    assert isinstance(env, TransferEnv)
    assert env.reset()["policy"].device == env.action_low.device == torch.device("meta")
    inner = env.env
    inner_step = inner.step
    inner.step = lambda action: inner_step(torch.zeros(4, 1))  # type: ignore[method-assign]
    env.env.device = torch.device("meta")  # the action comes from there, without values
    obs, reward, terminated, truncated, info = env.step(torch.zeros(4, 1, device="meta"))
    tensors = [obs["policy"], reward, terminated, truncated, info["success"], *info["rewards"].values()]
    assert {values.device.type for values in (*tensors, *info["metrics"].values())} == {"meta"}
    assert len(info["metrics"])


def test_cpu_physics_has_no_tensors_elsewhere() -> None:
    config = typed("env", compose(["env=cartpole", "env.physics=cpu"]).env)
    task = registry.load("env", config.name).TASK
    with pytest.raises(UserError, match=r"env\.physics=cpu .*device=meta"):
        make_env(config, task, device="meta", num_envs=2, seed=0, num_threads=1)
