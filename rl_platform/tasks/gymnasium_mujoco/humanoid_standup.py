"""HumanoidStandup-v5: a humanoid that lies on its back gets up."""

from __future__ import annotations

import torch

from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import Config, State
from rl_platform.tasks.gymnasium_mujoco.humanoid_v5 import DERIVED, OBSERVATIONS, contact_cost

__all__ = ["TASK", "Config"]


def height(s: State) -> torch.Tensor:
    """Z over the physics step: not a speed, whatever it looks like."""
    return s.qpos[:, 2] / s.timestep


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(derived=DERIVED),
    events={"reset_noise": base.uniform_noise},
    observations={"policy": OBSERVATIONS},
    rewards={
        "reward_linup": height,
        "reward_quadctrl": base.control_cost,
        "reward_impact": contact_cost,
        "reward_constant": lambda s: torch.ones_like(s.x),
    },
    metrics={"z_position": lambda s: s.qpos[:, 2].clone(), "solved": base.solved},
    reward_rates=False,
    current_fields=False,
)
