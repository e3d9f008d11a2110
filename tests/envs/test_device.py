"""That a step's tensors are all on the simulation's device: on "meta", where they have no values to see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rl_platform import registry
from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.env import Env, Observations
from rl_platform.physics.cpu import CpuPhysics

NAMES = (
    "cartpole",
    "reach",
    "lift",
    "lift_isaac",
    "push_cube",
    "walker12",
    "humanoid",
    "half_cheetah",
    "ant",
)
NUM_ENVS = 3


class MetaPhysics:
    """Simulations that have shapes, types and a device, and nothing else."""

    def __init__(self, model: Any, current: bool) -> None:
        self._like = CpuPhysics(model, NUM_ENVS, 1, current=current)
        self.model, self.num_envs = model, NUM_ENVS
        self.device, self.dtype = torch.device("meta"), torch.float32
        self.diverged = torch.zeros(NUM_ENVS, dtype=torch.bool, device="meta")

    def data(self, name: str) -> torch.Tensor:
        return torch.empty_like(self._like.data(name), dtype=self.dtype, device="meta")

    def expand(self, name: str) -> torch.Tensor:
        return torch.empty_like(self._like.expand(name), dtype=self.dtype, device="meta")

    def set_const(self, env_ids: torch.Tensor) -> None:
        assert env_ids.device == self.device

    reset = forward = set_const

    def step(self, substeps: int) -> None:
        pass

    check = load_state_dict = step

    def rows(self, env_ids: torch.Tensor) -> list[torch.Tensor]:
        return [torch.empty(len(env_ids), 4, device=self.device)]

    def put_rows(self, which: torch.Tensor, rows: list[torch.Tensor]) -> None:
        assert {which.device, *(values.device for values in rows)} == {self.device}


class BlindEnv(Env):
    """It does not look whether first observations are finite: there is nothing to see."""

    def _measure_first(self, env_ids: torch.Tensor) -> Observations:
        return self._groups.measure(self._state, env_ids)


def make(name: str, *overrides: str) -> Env:
    config = typed("env", compose([f"env={name}", *overrides]).env)
    task = registry.load("env", config.name).TASK
    physics: Any = MetaPhysics(task.scene(config).compile(), task.current_fields)
    return BlindEnv(config, task, physics, seed=0, training=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_step_stays_on_the_device(name: str) -> None:
    env = make(name)
    action = torch.zeros(NUM_ENVS, env.action_dim, device="meta")
    start = 0
    for term in env.actions.values():
        term.apply(action[:, start : start + term.dim])
        start += term.dim
    state = env._read()
    if env.task.remember is not None:
        env.task.remember(env, state)
    shares = env._reward_shares(state)
    terminated, truncated, done, ends = env._ends(state)
    env._log.add(shares)
    metrics = [metric(state) for metric in env.task.metrics.values()]
    success = [env.task.success(state)] if env.task.success is not None else []
    obs = env._observe(env.all_ids)
    for values in (shares, terminated, truncated, done, *ends, *metrics, *success, *obs.values()):
        assert values.device.type == "meta"


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_step_stays_on_the_device(name: str) -> None:
    """Restarts included: nothing without values can be looked at, so nothing is."""
    env = make(name, "env.action_delay_steps=[0,2]")
    starts: Any = env._starts
    starts._make_missing = lambda: starts._make(env.all_ids)
    for _ in range(2):
        obs, *results, info = env.step(torch.zeros(NUM_ENVS, env.action_dim, device="meta"))
        named = [*obs.values(), *info["final_obs"].values(), *info["rewards"].values()]
        for values in (*results, *named, *info["metrics"].values()):
            assert values.device.type == "meta"


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("lift", "env.events.cube_mass={range: [0.03, 0.2]}"),
        ("lift", "env.events.cube_friction={range: [0.6, 1.2]}"),
        ("walker12", "env.events.servo_gains={range: [0.8, 1.2]}"),
        ("walker12", "env.events.gravity={range: [9.0, 10.0]}"),
        ("walker12", "env.events.push={velocity: 1.0}"),
        ("lift", "env.observations.policy.tool_pos.noise=0.01"),
        ("lift", "env.actions.arm.mode=relative_joint_position"),
        ("lift", "env.actions.arm.mode=absolute_ee_pose"),
        ("lift", "env.actions.gripper.mode=binary"),
        ("lift", "env.observations.policy.tool_pos={scale:1.0,noise:0.0,history_steps:3,delay_steps:[0,2]}"),
    ],
)
def test_what_can_be_switched_on_stays_on_the_device(name: str, override: str) -> None:
    env = make(name, override)
    action = torch.zeros(NUM_ENVS, env.action_dim, device="meta")
    start = 0
    for term in env.actions.values():
        term.apply(action[:, start : start + term.dim])
        start += term.dim
    assert env._observe(env.all_ids)["policy"].device.type == "meta"


@pytest.mark.parametrize(
    "overrides",
    [
        ("env.actions.arm.mode=relative_ee_pose",),
        ("env.actions.arm.mode=absolute_ee_pose",),
        ("env.actions.arm.mode=relative_joint_position",),
        (
            "env.action_delay_steps=[0,2]",
            "env.observations.policy.tool_pos={scale:1.0,noise:0.01,history_steps:3,delay_steps:[0,2]}",
        ),
    ],
)
def test_a_state_from_a_file_comes_to_the_device(overrides: tuple[str, ...]) -> None:
    """A checkpoint is read into the memory of the CPU."""
    config = typed("env", compose(["env=lift", *overrides]).env)
    task = registry.load("env", "lift").TASK
    saved = make_env(config, task, num_envs=NUM_ENVS, seed=0, device="cpu", num_threads=1)
    env = make("lift", *overrides)
    env.load_state_dict(saved.state_dict())
    starts: Any = env._starts
    starts._make_missing = lambda: starts._make(env.all_ids)
    obs, *results, _ = env.step(torch.zeros(NUM_ENVS, env.action_dim, device="meta"))
    for values in (*obs.values(), *results):
        assert values.device.type == "meta"
