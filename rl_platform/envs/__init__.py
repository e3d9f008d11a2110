"""Environments: made from their configuration by `make_env`."""

from __future__ import annotations

from typing import Any

import torch

from rl_platform.envs.env import Env
from rl_platform.envs.terms import Task
from rl_platform.errors import UserError
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
        device: where simulation and tensors live; "cpu".
        num_threads: threads of the simulation.
        env_offset: global index of this rank's first environment.
        training: false for evaluation and play, where no event may make the task easier.
        dtype: of observations and rewards.

    Raises:
        UserError: the scene does not compile, or the device cannot simulate.
    """
    if torch.device(device).type != "cpu":
        raise UserError(f"device={device}: simulation runs on the CPU only; write device=cpu")
    try:
        spec = task.scene(config)
        if spec.memory < 0:  # the scene does not say
            spec.memory = SIMULATION_MEMORY
        model = spec.compile()
    except ValueError as error:
        raise UserError(f"env={config.name}: the scene does not compile: {error}") from error
    physics = CpuPhysics(model, num_envs, num_threads, current=task.current_fields)
    return Env(config, task, physics, seed=seed, env_offset=env_offset, training=training, dtype=dtype)
