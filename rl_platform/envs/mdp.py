"""Terms that many tasks share: functions of a state with the usual attribute names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from rl_platform.envs.env import Env


def action_rate(s: Any) -> torch.Tensor:
    """‖a_t - a_{t-1}‖²."""
    return (s.action - s.last_action).square().sum(1)


def action_size(s: Any) -> torch.Tensor:
    """‖a‖²."""
    return s.action.square().sum(1)


def joint_vel(s: Any) -> torch.Tensor:
    """‖dq‖²."""
    return s.joint_vel.square().sum(1)


def reward_weight(env: Env, *, reward: str, weight: float, after_steps: int) -> None:
    """Curriculum: give a reward another weight once every environment has taken `after_steps` steps."""
    if env.common_step > after_steps:
        env.reward_weights[reward] = weight


def body_mass(body: str) -> Callable[..., None]:
    """Event: draw the body's mass from `range` (kg), its inertia scaled with it."""

    def event(env: Env, env_ids: torch.Tensor, *, range: list[float]) -> None:
        physics, body_id = env.physics, env.physics.model.body(body).id
        mass = env.random.uniform_in(env_ids, [range])[:, 0]
        ratio = mass / float(physics.model.body_mass[body_id])
        inertia = torch.as_tensor(physics.model.body_inertia[body_id], device=env.device)
        physics.expand("body_mass")[env_ids, body_id] = mass
        physics.expand("body_inertia")[env_ids, body_id] = ratio[:, None] * inertia
        physics.set_const(env_ids)

    return event


def geom_friction(geom: str) -> Callable[..., None]:
    """Event: draw the geom's sliding friction coefficient from `range`."""

    def event(env: Env, env_ids: torch.Tensor, *, range: list[float]) -> None:
        geom_id = env.physics.model.geom(geom).id
        env.physics.expand("geom_friction")[env_ids, geom_id, 0] = env.random.uniform_in(env_ids, [range])[
            :, 0
        ]

    return event
