"""Environments: made from their configuration by `make_env`."""

from __future__ import annotations

from typing import Any

import mujoco
import torch

from rl_platform import registry
from rl_platform.envs.base import VisibleEnv
from rl_platform.envs.env import Env
from rl_platform.envs.terms import Task
from rl_platform.envs.transfer import TransferEnv
from rl_platform.errors import UserError
from rl_platform.physics.base import Physics
from rl_platform.physics.cpu import CpuPhysics

# Bytes that each simulation has for contacts and constraints; the tasks here use 50 kB at most. MuJoCo's own
# default is 14 MB, which thousands of simulations reserve until the system refuses to start another process.
SIMULATION_MEMORY = 2**20


def make_env(
    config: Any,
    task: Task,
    *,
    num_envs: int,
    seed: int,
    device: str,
    num_threads: int,
    env_offset: int = 0,
    training: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Env:
    """Build the scene of `task`, simulate it `num_envs` times, and wrap it as an environment.

    Args:
        config: the task's own `Config`.
        task: its tables.
        num_envs: environments on this rank.
        seed: of the environments' random streams.
        device: where simulation and tensors live; with `physics: cpu` only "cpu".
        num_threads: threads of a simulation on the CPU.
        env_offset: global index of this rank's first environment.
        training: false for evaluation and play, where no event may make the task easier.
        dtype: of observations and rewards.

    Raises:
        UserError: the scene does not compile, or the device or MuJoCo Warp cannot simulate it.
    """
    try:
        spec = task.scene(config)
        if spec.memory < 0:  # the scene does not say
            spec.memory = SIMULATION_MEMORY
        model = spec.compile()
    except ValueError as error:
        raise UserError(f"env={config.name}: the scene does not compile: {error}") from error
    physics = _make_physics(config, task, model, num_envs, device, num_threads)
    return Env(config, task, physics, seed=seed, env_offset=env_offset, training=training, dtype=dtype)


def make_env_for(config: Any, task: Task, *, device: str, **sizes: Any) -> VisibleEnv:
    """`make_env` for a learner on `device`: with `physics: cpu` the tensors are moved there and back."""
    if torch.device(device).type == "cpu" or config.physics != "cpu":
        return make_env(config, task, device=device, **sizes)
    return TransferEnv(make_env(config, task, device="cpu", **sizes), torch.device(device))


def _make_physics(
    config: Any, task: Task, model: mujoco.MjModel, num_envs: int, device: str, num_threads: int
) -> Physics:
    on_cpu = torch.device(device).type == "cpu"
    fields = {"current": task.current_fields, "poses_only": task.poses_only}
    if registry.simulator(config.physics, torch.device(device).type) == "cpu":
        if not on_cpu:
            raise UserError(f"env.physics=cpu has its tensors on the CPU, not on device={device}")
        return CpuPhysics(model, num_envs, num_threads, **fields)
    try:
        from rl_platform.physics.warp import WarpPhysics  # compiles kernels, which the CPU does without
    except ImportError as error:
        wanted = "env.physics=warp" if on_cpu else f"device={device}"
        raise UserError(
            f"{wanted} simulates with MuJoCo Warp, which is not installed ({error}).\n"
            "    → pip install -c constraints.txt -e '.[gpu]', or write env.physics=cpu"
        ) from error
    try:
        return WarpPhysics(model, num_envs, device, **vars(config.warp), **fields)
    except UserError as error:
        raise UserError(f"env={config.name}: {error}\n    → write env.physics=cpu") from error
