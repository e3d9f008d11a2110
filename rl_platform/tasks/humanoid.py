"""Run towards a far target: IsaacGymEnvs' Humanoid, its 108 observations, 21 torques and rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mujoco
import torch

from rl_platform.envs.actions import JointEffort, JointEffortAction
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Task
from rl_platform.physics.scene import (
    actuator_ids,
    add_camera,
    add_ground,
    add_surroundings,
    joint_ids,
    new_scene,
)
from rl_platform.robots import humanoid
from rl_platform.tensor_math import constant, planar_norm

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

TARGET = (1000.0, 0.0)  # m
WALKING_TIME = 5.0  # s
STRENGTH = tuple(gear / max(humanoid.GEARS.values()) for gear in humanoid.GEARS.values())


@dataclass
class Actions:
    """One column for each joint: its torque as a share of the motor's."""

    joints: JointEffortAction


@dataclass
class Config(EnvConfig):
    """The humanoid's own numbers.

    Attributes:
        actions: how strongly the policy drives the joints.
    """

    actions: Actions


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment.

    Attributes:
        position: of the torso, `(n, 3)` m.
        axes: the torso's axes as columns, `(n, 3, 3)`; x points forward, z up.
        lin_vel, ang_vel: of the torso, in its own axes, `(n, 3)` m/s and rad/s.
        joint_pos: `(n, 21)`, -1 … 1 over each joint's range.
        joint_vel: `(n, 21)` rad/s.
        joint_force: motor and passive torques in the last physics step, `(n, 21)` N m.
        foot_forces: force (N) and torque (N m) between each shin and its foot, `(n, 12)`.
        action: `(n, 21)`.
        age: s since the episode's start, `(n,)`.
    """

    position: torch.Tensor
    axes: torch.Tensor
    lin_vel: torch.Tensor
    ang_vel: torch.Tensor
    joint_pos: torch.Tensor
    joint_vel: torch.Tensor
    joint_force: torch.Tensor
    foot_forces: torch.Tensor
    action: torch.Tensor
    age: torch.Tensor

    @cached_property
    def to_target(self) -> torch.Tensor:
        """Direction of the target, `(n, 2)`, of length 1."""
        away = constant(TARGET, self.position) - self.position[:, :2]
        return away / planar_norm(away)[:, None]

    @cached_property
    def velocity(self) -> torch.Tensor:
        """Of the torso over the ground, world axes, `(n, 2)` m/s."""
        return torch.bmm(self.axes, self.lin_vel[:, :, None])[:, :2, 0]

    @cached_property
    def heading(self) -> torch.Tensor:
        """Cosine between the torso's x axis and the direction of the target, `(n,)`."""
        return (self.axes[:, :2, 0] * self.to_target).sum(1)

    @cached_property
    def angles(self) -> torch.Tensor:
        """Yaw, roll, and the angle to the target, `(n, 3)` rad."""
        yaw = torch.atan2(self.axes[:, 1, 0], self.axes[:, 0, 0])
        roll = torch.atan2(self.axes[:, 2, 1], self.axes[:, 2, 2])
        bearing = torch.atan2(self.to_target[:, 1], self.to_target[:, 0])
        angle = torch.remainder(bearing - yaw + torch.pi, 2.0 * torch.pi) - torch.pi
        return torch.stack([yaw, roll, angle], dim=1)


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """The robot on the ground."""
    spec = new_scene(config.timestep, integrator="implicitfast", iterations=4)
    add_ground(spec)
    humanoid.add_humanoid(spec)
    if looks != "none":
        add_surroundings(spec, floor=0.0, follow="torso")
        add_camera(
            spec, "side", position=(0.6, -3.6, 0.6), target=(0.0, 0.0, -0.45), fovy=40.0, follow="torso"
        )
    return spec


def actions(env: Env) -> dict[str, Any]:
    """The joints' action term."""
    ids = actuator_ids(env.physics.model, tuple(humanoid.GEARS)).tolist()
    return {"joints": JointEffort(env.physics, ids, env.config.actions.joints)}


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    physics, model = env.physics, env.physics.model
    qpos, qvel, xmat = physics.data("qpos"), physics.data("qvel"), physics.data("xmat")
    motors, passive = physics.data("qfrc_actuator"), physics.data("qfrc_passive")
    sensors = physics.data("sensordata")
    torso = model.body("torso").id
    names = tuple(humanoid.GEARS)
    positions, velocities = (ids.to(env.device) for ids in joint_ids(model, names))
    limits = _limits(env)
    middle, half = limits.mean(1), (limits[:, 1] - limits[:, 0]) / 2.0

    def read() -> State:
        axes = xmat[:, torso].to(torch.float32).view(-1, 3, 3)
        moved = (env.episode_length > 0)[:, None]  # forces belong to a step: at the start there was none
        force = (motors + passive)[:, velocities] * moved
        return State(
            position=qpos[:, :3].to(torch.float32),
            axes=axes,
            lin_vel=torch.bmm(qvel[:, None, :3].to(torch.float32), axes)[:, 0],
            ang_vel=qvel[:, 3:6].to(torch.float32),
            joint_pos=((qpos[:, positions] - middle) / half).to(torch.float32),
            joint_vel=qvel[:, velocities].to(torch.float32),
            joint_force=force.to(torch.float32),
            foot_forces=(sensors * moved).to(torch.float32),
            action=env.action,
            age=env.episode_length * env.step_dt,
        )

    return read


def progress(s: State) -> torch.Tensor:
    """Speed towards the target, m/s: the change of the potential -distance / dt."""
    return (s.velocity * s.to_target).sum(1)


def upright(s: State, *, threshold: float) -> torch.Tensor:
    """[up > threshold], with up the height of the torso's z axis."""
    return (s.axes[:, 2, 2] > threshold).to(torch.float32)


def heading(s: State, *, threshold: float) -> torch.Tensor:
    """min(heading / threshold, 1)."""
    return (s.heading / threshold).clamp(max=1.0)


def energy(s: State) -> torch.Tensor:
    """Σ |a · 0.1 dq| g, with g each motor's share of the strongest one's torque."""
    return ((s.action * s.joint_vel * 0.1).abs() * constant(STRENGTH, s.action)).sum(1)


def joints_at_limit(s: State, *, threshold: float) -> torch.Tensor:
    """Σ [|q| > threshold] (|q| - threshold) / (1 - threshold) g over the joints, q from -1 to 1."""
    beyond = (s.joint_pos.abs() - threshold).clamp(min=0.0) / (1.0 - threshold)
    return (beyond * constant(STRENGTH, beyond)).sum(1)


def _limits(env: Env) -> torch.Tensor:
    """The joints' ranges, `(21, 2)` rad."""
    model = env.physics.model
    ranges = model.jnt_range[[model.joint(name).id for name in humanoid.GEARS]]
    return torch.as_tensor(ranges, dtype=env.physics.dtype, device=env.device)


def fallen(s: State, *, minimum_height: float) -> torch.Tensor:
    """The torso is lower than `minimum_height` (m)."""
    return s.position[:, 2] < minimum_height


def success(s: State) -> torch.Tensor:
    """The robot is on its feet after `WALKING_TIME` or more, and on the way at half a metre a second."""
    return (s.age >= WALKING_TIME - 1e-4) & (s.position[:, 0] > 0.5 * s.age) & (s.position[:, 2] > 0.8)


def mean_speed(s: State) -> torch.Tensor:
    """Towards the target since the episode's start, m/s."""
    return s.position[:, 0] / s.age.clamp(min=1.0 / 60.0)


def reset_robot(env: Env, env_ids: torch.Tensor, *, joint_noise: float, velocity_noise: float) -> None:
    """Stand at the origin, joints ± joint_noise (rad) within their range, at ± velocity_noise (rad/s)."""
    model = env.physics.model
    names = tuple(humanoid.GEARS)
    positions, velocities = (ids.to(env.device) for ids in joint_ids(model, names))
    limits = _limits(env)
    ranges = [[-joint_noise, joint_noise]] * 21 + [[-velocity_noise, velocity_noise]] * 21
    drawn = env.random.uniform_in(env_ids, ranges)
    joints = drawn[:, :21].clamp(limits[:, 0], limits[:, 1])
    env.physics.data("qpos")[env_ids[:, None], positions] = joints
    env.physics.data("qvel")[env_ids[:, None], velocities] = drawn[:, 21:]


TASK = Task(
    scene=scene,
    actions=actions,
    reader=reader,
    events={"reset_robot": reset_robot},
    observations={
        "policy": {
            "height": lambda s: s.position[:, 2:],
            "lin_vel": lambda s: s.lin_vel,
            "ang_vel": lambda s: s.ang_vel,
            "angles": lambda s: s.angles,
            "up": lambda s: s.axes[:, 2:, 2],
            "heading": lambda s: s.heading[:, None],
            "joint_pos": lambda s: s.joint_pos,
            "joint_vel": lambda s: s.joint_vel,
            "joint_force": lambda s: s.joint_force,
            "foot_forces": lambda s: s.foot_forces,
            "actions": lambda s: s.action,
        }
    },
    rewards={
        "progress": progress,
        "alive": lambda s: torch.ones_like(s.age),
        "up": upright,
        "heading": heading,
        "action_cost": lambda s: s.action.square().sum(1),
        "energy": energy,
        "joints_at_limit": joints_at_limit,
        "fall": lambda s, *, minimum_height: fallen(s, minimum_height=minimum_height).to(torch.float32),
    },
    terminations={"fallen": fallen},
    success=success,
    metrics={"speed": mean_speed},
)
