"""Humanoid-v5: a humanoid walks forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config, State

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

__all__ = ["HEALTHY", "OBSERVATIONS", "TASK", "Config"]

DERIVED = ["cinert", "cvel", "qfrc_actuator", "cfrc_ext"]
HEALTHY = {"z": lambda s: s.qpos[:, 2:3]}
OBSERVATIONS = {
    "skipped_qpos": lambda s: s.qpos[:, :2],
    "qpos": lambda s: s.qpos[:, 2:],
    "qvel": lambda s: s.qvel,
    "cinert": lambda s: s.rows("cinert"),
    "cvel": lambda s: s.rows("cvel"),
    "qfrc_actuator": lambda s: s.derived["qfrc_actuator"][:, 6:],
    "cfrc_ext": lambda s: s.rows("cfrc_ext"),
}


def mass_centre_x(env: Env) -> Callable[[], torch.Tensor]:
    """Read where the centre of mass is."""
    centres = env.physics.data("xipos")
    mass = torch.as_tensor(env.physics.model.body_mass, device=env.device)
    share = mass / mass.sum()
    return lambda: (centres[:, :, 0] * share).sum(1)


def contact_cost(s: State, *, coef: float, cost_range: list[float]) -> torch.Tensor:
    """Coef · Σ external forces², cut off."""
    return (coef * s.rows("cfrc_ext").square().sum(1)).clamp(*cost_range)


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(mass_centre_x, derived=DERIVED, healthy=HEALTHY),
    events={"reset_noise": base.uniform_noise},
    observations={"policy": OBSERVATIONS},
    rewards={
        "reward_forward": base.x_velocity,
        "reward_ctrl": base.control_cost,
        "reward_contact": contact_cost,
        "reward_survive": base.survival,
    },
    terminations={"unhealthy": base.unhealthy},
    metrics={"x_position": base.x_position, "solved": base.solved},
    reward_rates=False,
    current_fields=False,
)
