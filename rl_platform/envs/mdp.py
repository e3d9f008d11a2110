"""Terms that many tasks share: functions of a state with the usual attribute names."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from rl_platform.tensor_math import constant

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
        if not range[0] > 0.0:
            raise ValueError(f"a mass is above 0 kg, got a range of {range}")
        ratio = mass / float(physics.model.body_mass[body_id])
        inertia = constant(physics.model.body_inertia[body_id].tolist(), mass)
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


def gravity(env: Env, env_ids: torch.Tensor, *, range: list[float]) -> None:
    """Event: draw gravity's acceleration downwards from `range` (m/s²)."""
    env.physics.expand("opt.gravity")[env_ids, 2] = -env.random.uniform_in(env_ids, [range])[:, 0]


def servo_gains(prefix: str = "") -> Callable[..., None]:
    """Event: multiply kp and kd of each position servo whose name begins so by a number from `range`."""

    def event(env: Env, env_ids: torch.Tensor, *, range: list[float]) -> None:
        physics, model = env.physics, env.physics.model
        servos = [i for i in builtins.range(model.nu) if model.actuator(i).name.startswith(prefix)]
        factor = env.random.uniform_in(env_ids, [range] * len(servos))
        for column, servo in enumerate(servos):
            for field, places in (("actuator_gainprm", [0]), ("actuator_biasprm", [1, 2])):
                nominal = constant(getattr(model, field)[servo, places].tolist(), factor)
                values = factor[:, column, None] * nominal
                first, last = places[0], places[-1] + 1
                physics.expand(field)[env_ids, servo, first:last] = values

    return event


def push(joint: str) -> Callable[..., None]:
    """Event: add to a free joint's horizontal velocity, in each direction from ± `velocity` (m/s)."""

    def event(env: Env, env_ids: torch.Tensor, *, velocity: float) -> None:
        dof = int(env.physics.model.joint(joint).dofadr[0])
        kick = env.random.uniform_in(env_ids, [[-velocity, velocity]] * 2)
        env.physics.data("qvel")[env_ids, dof : dof + 2] += kick

    return event
