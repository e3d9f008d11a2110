"""Swimmer-v5: three links in a viscous fluid swim forward."""

from __future__ import annotations

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config

__all__ = ["TASK", "Config"]

TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(),
    events={"reset_noise": base.uniform_noise},
    observations={
        "policy": {
            "skipped_qpos": lambda s: s.qpos[:, :2],
            "qpos": lambda s: s.qpos[:, 2:],
            "qvel": lambda s: s.qvel,
        }
    },
    rewards={"reward_forward": base.x_velocity, "reward_ctrl": base.control_cost},
    metrics={"x_position": base.x_position, "solved": base.solved},
    reward_rates=False,
    current_fields=False,
    poses_only=True,
)
