"""Ant-v5: a body on four legs runs forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Task
from rl_platform.tasks.gymnasium_mujoco import base
from rl_platform.tasks.gymnasium_mujoco.base import State

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

HEALTHY = {"z": lambda s: s.qpos[:, 2:3]}


@dataclass
class Config(EnvConfig):
    """What the task has besides its tables.

    Attributes:
        xml_file: a model of Gymnasium's, or the path of one's own.
        main_body: the body whose speed is rewarded.
        solved_return: an episode that collects so much counts as solved.
        healthy: quantity → [low, high]; beyond one of them the robot has failed.
    """

    xml_file: str
    main_body: str
    solved_return: float
    healthy: dict[str, Any]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        yield from super().check()
        yield from base.check(self)


def main_body_x(env: Env) -> Callable[[], torch.Tensor]:
    """Read where the main body is."""
    xpos = env.physics.data("xpos")
    body = env.physics.model.body(env.config.main_body).id
    return lambda: xpos[:, body, 0].clone()


def contact_forces(s: State, *, force_range: list[float]) -> torch.Tensor:
    """Each body's external torque and force, cut off, `(n, 6 · bodies)`."""
    return s.rows("cfrc_ext").clamp(*force_range)


def contact_cost(s: State, *, force_range: list[float]) -> torch.Tensor:
    """Σ of their squares."""
    return contact_forces(s, force_range=force_range).square().sum(1)


TASK = Task(
    scene=base.scene,
    actions=base.motors,
    reader=base.reader(main_body_x, derived=["cfrc_ext"], healthy=HEALTHY),
    events={"reset_noise": base.uniform_normal_noise},
    observations={
        "policy": {
            "skipped_qpos": lambda s: s.qpos[:, :2],
            "qpos": lambda s: s.qpos[:, 2:],
            "qvel": lambda s: s.qvel,
            "cfrc_ext": contact_forces,
        }
    },
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
