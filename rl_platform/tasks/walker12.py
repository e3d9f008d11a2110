"""Walk forward on four legs with twelve joint targets: the tutorial's 33 observations and its reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mujoco
import torch

from rl_platform.envs import mdp
from rl_platform.envs.actions import JointPosition, JointPositionAction
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Task
from rl_platform.physics.scene import (
    actuator_ids,
    add_camera,
    add_ground,
    add_surroundings,
    new_scene,
)
from rl_platform.robots import quadruped
from rl_platform.tensor_math import constant

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

WALKING_SPEED = 1.0  # m/s, mean over an episode, that counts as success


@dataclass
class Actions:
    """One column for each joint: its target around the standing pose."""

    legs: JointPositionAction


@dataclass
class Config(EnvConfig):
    """The walker's own numbers.

    Attributes:
        drive: gains and limits of the joints' servos.
        actions: how far the policy moves the joints.
    """

    drive: quadruped.Drive
    actions: Actions


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment; the trunk's x points forward.

    Attributes:
        lin_vel, ang_vel: of the trunk, in its own axes, `(n, 3)` m/s and rad/s.
        gravity: the direction of gravity in the trunk's axes, `(n, 3)`.
        joint_pos, joint_vel: `(n, 12)` rad from the standing pose, and rad/s.
        torque: of the servos in the last physics step, `(n, 12)` N m.
        height: of the trunk's centre, `(n,)` m.
        distance: from where the episode began, over the ground, `(n,)` m.
        age: s since the episode's start, `(n,)`.
        action, last_action: `(n, 12)`.
    """

    lin_vel: torch.Tensor
    ang_vel: torch.Tensor
    gravity: torch.Tensor
    joint_pos: torch.Tensor
    joint_vel: torch.Tensor
    torque: torch.Tensor
    height: torch.Tensor
    distance: torch.Tensor
    age: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """The robot on the ground."""
    spec = new_scene(config.timestep, integrator="implicitfast", iterations=4)
    add_ground(spec)
    quadruped.add_quadruped(spec, config.drive, looks=looks != "none")
    if looks != "none":
        add_surroundings(spec, floor=0.0, follow="trunk")
        add_camera(
            spec, "side", position=(0.25, -1.7, 0.6), target=(0.0, 0.0, -0.08), fovy=40.0, follow="trunk"
        )
    return spec


def actions(env: Env) -> dict[str, Any]:
    """The legs' action term."""
    ids = actuator_ids(env.physics.model, quadruped.JOINTS).tolist()
    default = torch.tensor(quadruped.STAND * 4, dtype=env.physics.dtype, device=env.device)
    return {"legs": JointPosition(env.physics, ids, default, env.config.actions.legs.scale)}


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    physics, model = env.physics, env.physics.model
    qpos, qvel, xmat = physics.data("qpos"), physics.data("qvel"), physics.data("xmat")
    torque = physics.data("actuator_force")
    trunk = model.body("trunk").id
    default = torch.tensor(quadruped.STAND * 4, device=env.device)

    def read() -> State:
        positions, velocities = qpos.to(torch.float32), qvel.to(torch.float32)
        axes = xmat[:, trunk].to(torch.float32).view(-1, 3, 3)
        return State(
            lin_vel=torch.bmm(velocities[:, None, :3], axes)[:, 0],
            ang_vel=velocities[:, 3:6],
            gravity=-axes[:, 2],
            joint_pos=positions[:, 7:] - default,
            joint_vel=velocities[:, 6:],
            torque=torque.to(torch.float32),
            height=positions[:, 2],
            distance=positions[:, :2].norm(dim=1),
            age=env.episode_length * env.step_dt,
            action=env.action,
            last_action=env.last_action,
        )

    return read


def forward(s: State, *, maximum: float) -> torch.Tensor:
    """Forward speed of the trunk, m/s; more than `maximum` does not count."""
    return s.lin_vel[:, 0].clamp(max=maximum)


def success(s: State) -> torch.Tensor:
    """The robot has come as far as `WALKING_SPEED` takes it."""
    return s.distance >= WALKING_SPEED * s.age


def fallen(s: State, *, minimum_height: float, maximum_tilt: float) -> torch.Tensor:
    """The trunk is lower than `minimum_height` (m), or its tilt's cosine below 1 - `maximum_tilt`."""
    return (s.height < minimum_height) | (s.gravity[:, 2] > maximum_tilt - 1.0)


def reset_robot(env: Env, env_ids: torch.Tensor, *, joint_noise: float, velocity_noise: float) -> None:
    """Stand at the origin, joints ± joint_noise (rad), the trunk pushed by ± velocity_noise (m/s)."""
    ranges = [[-joint_noise, joint_noise]] * 12 + [[-velocity_noise, velocity_noise]] * 2
    drawn = env.random.uniform_in(env_ids, ranges)
    joints = constant(quadruped.STAND * 4, drawn) + drawn[:, :12]
    env.physics.data("qpos")[env_ids, 7:] = joints
    env.physics.data("qvel")[env_ids, :2] = drawn[:, 12:]
    env.physics.data("ctrl")[env_ids] = joints


TASK = Task(
    scene=scene,
    actions=actions,
    reader=reader,
    events={
        "reset_robot": reset_robot,
        "trunk_mass": mdp.body_mass("trunk"),
        "ground_friction": mdp.geom_friction("ground"),
        "servo_gains": mdp.servo_gains(),
        "gravity": mdp.gravity,
        "push": mdp.push("root"),
    },
    observations={
        "policy": {
            "base_lin_vel": lambda s: s.lin_vel,
            "base_ang_vel": lambda s: s.ang_vel,
            "projected_gravity": lambda s: s.gravity,
            "joint_pos": lambda s: s.joint_pos,
            "joint_vel": lambda s: s.joint_vel,
            "actions": lambda s: s.action,
        }
    },
    rewards={
        "forward": forward,
        "alive": lambda s: torch.ones_like(s.height),
        "torque": lambda s: s.torque.square().sum(1),
        "upright": lambda s: s.gravity[:, :2].square().sum(1),
        "sideways": lambda s: s.lin_vel[:, 1].square(),
        "turning": lambda s: s.ang_vel[:, 2].square(),
        "action_rate": mdp.action_rate,
    },
    terminations={"fallen": fallen},
    success=success,
    metrics={"speed": lambda s: s.distance / s.age.clamp(min=0.02), "height": lambda s: s.height},
)
