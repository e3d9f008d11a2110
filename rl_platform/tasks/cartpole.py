"""Cartpole: keep a pole upright on a cart that is pushed to and fro, as Isaac Lab's `Isaac-Cartpole-v0`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, radians
from typing import TYPE_CHECKING, Any

import mujoco
import torch

from rl_platform.envs.actions import JointEffort, JointEffortAction
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Task
from rl_platform.physics.scene import add_camera, add_surroundings, new_scene
from rl_platform.robots import cartpole

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

UPRIGHT = radians(12.0)  # a pole within this of the vertical is balanced
TIME_TO_BALANCE = 2.0  # s from an episode's start; balanced from then on without a break is success


@dataclass
class Actions:
    """One column: the force on the cart."""

    cart: JointEffortAction


@dataclass
class Config(EnvConfig):
    """Cartpole's own numbers.

    Attributes:
        actions: how strongly the policy pushes.
    """

    actions: Actions


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment.

    Attributes:
        cart_pos, cart_vel: `(n,)` m, m/s.
        pole_angle, pole_vel: `(n,)` rad from the vertical, rad/s.
        balanced: s that the pole has been upright without a break, `(n, 1)`.
        age: s since the episode's start, `(n,)`.
        failed: `(n,)` bool, whether a termination's limit is passed.
    """

    cart_pos: torch.Tensor
    cart_vel: torch.Tensor
    pole_angle: torch.Tensor
    pole_vel: torch.Tensor
    balanced: torch.Tensor
    age: torch.Tensor
    failed: torch.Tensor


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """The cart on its rail, 2 m above the ground."""
    spec = new_scene(config.timestep, integrator="implicitfast")
    cartpole.add_cartpole(spec, looks=looks != "none")
    if looks != "none":
        add_surroundings(spec, floor=0.0)
        add_camera(spec, "front", position=(0.0, -6.0, 2.7), target=(0.0, 0.0, 2.25), fovy=42.0)
    return spec


def actions(env: Env) -> dict[str, Any]:
    """The cart's action term."""
    return {"cart": JointEffort(env.physics, [0], env.config.actions.cart)}


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    qpos, qvel = env.physics.data("qpos"), env.physics.data("qvel")
    ends = env.config.terminations
    farthest = (ends["cart_out_of_bounds"] or {"limit": inf})["limit"]
    steepest = radians((ends["pole_fallen"] or {"limit_deg": inf})["limit_deg"])
    limits = torch.tensor([farthest, steepest], device=env.device)

    def read() -> State:
        positions, velocities = qpos.to(torch.float32), qvel.to(torch.float32)
        return State(
            cart_pos=positions[:, 0],
            cart_vel=velocities[:, 0],
            pole_angle=positions[:, 1],
            pole_vel=velocities[:, 1],
            balanced=env.memory["balanced"],
            age=env.episode_length * env.step_dt,
            failed=(positions.abs() > limits).any(1),
        )

    return read


def remember(env: Env, s: State) -> None:
    """Count for how long the pole has been upright."""
    s.balanced.add_(env.step_dt).mul_((s.pole_angle.abs() < UPRIGHT)[:, None])


def cart_out_of_bounds(s: State, *, limit: float) -> torch.Tensor:
    """The cart is farther than `limit` (m) from the middle."""
    return s.cart_pos.abs() > limit


def pole_fallen(s: State, *, limit_deg: float) -> torch.Tensor:
    """The pole is farther than `limit_deg` from the vertical."""
    return s.pole_angle.abs() > radians(limit_deg)


def success(s: State) -> torch.Tensor:
    """The pole has been upright since `TIME_TO_BALANCE` after the start, and the cart is on its rail."""
    return (s.age - s.balanced[:, 0] < TIME_TO_BALANCE + 1e-4) & ~s.failed


def reset_cart(env: Env, env_ids: torch.Tensor, *, position: float, velocity: float) -> None:
    """Put the cart within ± position (m), at ± velocity (m/s)."""
    _draw(env, env_ids, 0, position, velocity)


def reset_pole(env: Env, env_ids: torch.Tensor, *, angle_deg: float, velocity_deg: float) -> None:
    """Put the pole within ± angle_deg of the vertical, at ± velocity_deg a second."""
    _draw(env, env_ids, 1, radians(angle_deg), radians(velocity_deg))


def _draw(env: Env, env_ids: torch.Tensor, joint: int, position: float, velocity: float) -> None:
    drawn = env.random.uniform_in(env_ids, [[-position, position], [-velocity, velocity]])
    env.physics.data("qpos")[env_ids, joint] = drawn[:, 0]
    env.physics.data("qvel")[env_ids, joint] = drawn[:, 1]


TASK = Task(
    scene=scene,
    actions=actions,
    reader=reader,
    memory={"balanced": 1},
    remember=remember,
    events={"reset_cart": reset_cart, "reset_pole": reset_pole},
    observations={
        "policy": {
            "joint_pos": lambda s: torch.stack([s.cart_pos, s.pole_angle], dim=1),
            "joint_vel": lambda s: torch.stack([s.cart_vel, s.pole_vel], dim=1),
        }
    },
    rewards={
        "alive": lambda s: (~s.failed).to(torch.float32),
        "terminating": lambda s: s.failed.to(torch.float32),
        "pole_pos": lambda s: s.pole_angle.square(),
        "cart_vel": lambda s: s.cart_vel.abs(),
        "pole_vel": lambda s: s.pole_vel.abs(),
    },
    terminations={"cart_out_of_bounds": cart_out_of_bounds, "pole_fallen": pole_fallen},
    success=success,
    metrics={"pole_angle": lambda s: s.pole_angle.abs(), "cart_position": lambda s: s.cart_pos.abs()},
    poses_only=True,
)
