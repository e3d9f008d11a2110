"""Pusher-v5: an arm pushes a cylinder to a goal on a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config, State

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

__all__ = ["TASK", "Config"]

TIP, CYLINDER, GOAL = 10, 11, 12  # bodies


def distance(s: State) -> torch.Tensor:
    """‖cylinder - goal‖, m."""
    return (s.derived["xpos"][:, CYLINDER] - s.derived["xpos"][:, GOAL]).norm(dim=1)


def reach(s: State) -> torch.Tensor:
    """‖cylinder - tip of the arm‖, m."""
    return (s.derived["xpos"][:, CYLINDER] - s.derived["xpos"][:, TIP]).norm(dim=1)


def reset_arm(env: Env, env_ids: torch.Tensor, *, velocity: float) -> None:
    """Add noise from U(-velocity, velocity) (rad/s) to the arm's joints."""
    noise = 2.0 * env.random.uniform(env_ids, 7) - 1.0
    env.physics.data("qvel")[env_ids, :7] += velocity * noise


def reset_cylinder(
    env: Env, env_ids: torch.Tensor, *, first: list[float], second: list[float], min_distance: float
) -> None:
    """Draw the cylinder's two coordinates (m, from the goal) anew until it is far enough from the goal."""
    qpos, pending = env.physics.data("qpos"), env_ids
    while len(pending):
        drawn = env.random.uniform_in(pending, [first, second])
        qpos[pending, 7:9] = drawn
        pending = pending[drawn.norm(dim=1) <= min_distance]
    qpos[env_ids, 9:11] = 0.0


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(derived=["xpos"]),
    events={"reset_arm": reset_arm, "reset_cylinder": reset_cylinder},
    observations={
        "policy": {
            "qpos": lambda s: s.qpos[:, :7],
            "qvel": lambda s: s.qvel[:, :7],
            "tip": lambda s: s.derived["xpos"][:, TIP],
            "cylinder": lambda s: s.derived["xpos"][:, CYLINDER],
            "goal": lambda s: s.derived["xpos"][:, GOAL],
        }
    },
    rewards={"reward_dist": distance, "reward_ctrl": base.control_cost, "reward_near": reach},
    metrics={"distance": distance, "solved": base.solved},
    reward_rates=False,
    current_fields=False,
    poses_only=True,
)
