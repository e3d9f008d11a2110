"""InvertedDoublePendulum-v5: two poles, one upon the other, are kept upright on a cart."""

from __future__ import annotations

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config, State

__all__ = ["HEALTHY", "TASK", "Config"]

HEALTHY = {"tip_z": lambda s: s.derived["site_xpos"][:, 0, 2:]}


def distance(s: State) -> torch.Tensor:
    """0.01 x² + (z - 2)² of the upper pole's tip, m²."""
    x, _, z = s.derived["site_xpos"][:, 0].unbind(1)
    return 0.01 * x.square() + (z - 2.0).square()


def velocity(s: State) -> torch.Tensor:
    """0.001 ω₁² + 0.005 ω₂², (rad/s)²."""
    return 1e-3 * s.qvel[:, 1].square() + 5e-3 * s.qvel[:, 2].square()


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(derived=["site_xpos", "qfrc_constraint"], healthy=HEALTHY),
    events={"reset_noise": base.uniform_normal_noise},
    observations={
        "policy": {
            "cart": lambda s: s.qpos[:, :1],
            "sin": lambda s: s.qpos[:, 1:].sin(),
            "cos": lambda s: s.qpos[:, 1:].cos(),
            "qvel": base.clipped_velocity,
            "qfrc_constraint": lambda s: s.derived["qfrc_constraint"][:, :1].clamp(-10.0, 10.0),
        }
    },
    rewards={
        "reward_survive": base.survival,
        "distance_penalty": distance,
        "velocity_penalty": velocity,
    },
    terminations={"unhealthy": base.unhealthy},
    metrics={"solved": base.solved},
    reward_rates=False,
    current_fields=False,
)
