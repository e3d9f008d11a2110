"""Reacher-v5: an arm of two links brings its tip to a target in the plane."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config, State

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

__all__ = ["TASK", "Config"]

FINGERTIP, TARGET = 3, 4  # bodies


def tip_from_target(s: State) -> torch.Tensor:
    """Fingertip - target, `(n, 3)` m."""
    return s.derived["xpos"][:, FINGERTIP] - s.derived["xpos"][:, TARGET]


def distance(s: State) -> torch.Tensor:
    """‖fingertip - target‖, m."""
    return tip_from_target(s).norm(dim=1)


def reset_arm(env: Env, env_ids: torch.Tensor, *, position: float, velocity: float) -> None:
    """Add noise from U(-position, position) (rad) and U(-velocity, velocity) (rad/s) to the two joints."""
    noise = 2.0 * env.random.uniform(env_ids, 4) - 1.0
    env.physics.data("qpos")[env_ids, :2] += position * noise[:, :2]
    env.physics.data("qvel")[env_ids, :2] += velocity * noise[:, 2:]


def reset_target(env: Env, env_ids: torch.Tensor, *, radius: float) -> None:
    """Put the target on a disc around the arm's foot, anywhere alike; radius in m."""
    drawn = env.random.uniform(env_ids, 2)
    r, angle = radius * drawn[:, 0].sqrt(), 2.0 * pi * drawn[:, 1]
    env.physics.data("qpos")[env_ids, 2:] = torch.stack([r * angle.cos(), r * angle.sin()], dim=1)


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(derived=["xpos"]),
    events={"reset_arm": reset_arm, "reset_target": reset_target},
    observations={
        "policy": {
            "cos": lambda s: s.qpos[:, :2].cos(),
            "sin": lambda s: s.qpos[:, :2].sin(),
            "target": lambda s: s.qpos[:, 2:],
            "qvel": lambda s: s.qvel[:, :2],
            "tip_from_target": lambda s: tip_from_target(s)[:, :2],
        }
    },
    rewards={"reward_dist": distance, "reward_ctrl": base.control_cost},
    metrics={"distance": distance, "solved": base.solved},
    reward_rates=False,
    current_fields=False,
    poses_only=True,
)
