"""Hopper-v5: a planar leg hops forward."""

from __future__ import annotations

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config

__all__ = ["HEALTHY", "TASK", "Config"]

HEALTHY = {
    "z": lambda s: s.qpos[:, 1:2],
    "angle": lambda s: s.qpos[:, 2:3],
    "state": lambda s: torch.cat([s.qpos[:, 2:], s.qvel], dim=1),
}

TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(healthy=HEALTHY),
    events={"reset_noise": base.uniform_noise},
    observations={
        "policy": {
            "skipped_qpos": lambda s: s.qpos[:, :1],
            "qpos": lambda s: s.qpos[:, 1:],
            "qvel": base.clipped_velocity,
        }
    },
    rewards={
        "reward_forward": base.x_velocity,
        "reward_ctrl": base.control_cost,
        "reward_survive": base.survival,
    },
    terminations={"unhealthy": base.unhealthy},
    metrics={"x_position": base.x_position, "solved": base.solved},
    reward_rates=False,
    current_fields=False,
    poses_only=True,
)
