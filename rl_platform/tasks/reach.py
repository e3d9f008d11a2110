"""Reach: bring the tool to a commanded pose, as Isaac Lab's `Isaac-Reach-Franka-v0`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import radians
from typing import TYPE_CHECKING

import mujoco
import torch

from rl_platform.envs import mdp
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Command, Task
from rl_platform.physics.scene import add_goal, add_table_top, new_scene
from rl_platform.robots import panda
from rl_platform.tasks.manipulation import ArmOnly, arm_only, reset_robot
from rl_platform.tensor_math import quat_to_matrix

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

NEAR = 0.02  # m
ALIGNED = radians(10.0)
HOLD_TIME = 0.5  # s that the tool has to be there, up to the episode's end


@dataclass
class Config(EnvConfig):
    """Reach's own numbers.

    Attributes:
        robot: how the arm starts and how its joints are driven.
        actions: how the policy drives the arm; the fingers stay as they start.
    """

    robot: panda.Robot
    actions: ArmOnly


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment.

    Attributes:
        joint_pos, joint_vel: of the arm, `(n, 7)`; rad, rad/s.
        default_pos: the joints at an episode's start, `(7,)`.
        tool_pos: `(n, 3)` m.
        tool_mat: the tool's axes as columns, `(n, 3, 3)`.
        goal: commanded position (m) and quaternion w, x, y, z, `(n, 7)`.
        held: s that the tool has been at the goal: its position alone, and the whole pose, `(n, 2)`.
        action, last_action: `(n, 7)`.
    """

    joint_pos: torch.Tensor
    joint_vel: torch.Tensor
    default_pos: torch.Tensor
    tool_pos: torch.Tensor
    tool_mat: torch.Tensor
    goal: torch.Tensor
    held: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor

    @cached_property
    def position_error(self) -> torch.Tensor:
        """‖tool - goal‖, `(n,)` m."""
        return (self.goal[:, :3] - self.tool_pos).norm(dim=1)

    @cached_property
    def goal_in_tool(self) -> torch.Tensor:
        """The goal's axes, as columns, in the tool's axes, `(n, 3, 3)`: the identity when it is reached."""
        return self.tool_mat.transpose(1, 2) @ quat_to_matrix(self.goal[:, 3:])

    @cached_property
    def orientation_error(self) -> torch.Tensor:
        """Angle between the tool's axes and the goal's, `(n,)` rad: tr R = 1 + 2 cos(angle)."""
        cosine = (self.goal_in_tool.diagonal(dim1=1, dim2=2).sum(1) - 1.0) / 2.0
        return torch.acos(cosine.clamp(-1.0, 1.0))


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """A Panda at the origin behind a table, and a sphere that shows the goal's position."""
    spec = new_scene(config.timestep)
    add_table_top(spec, looks=looks != "none")
    compensated = config.robot.gravity_compensation
    panda.add_panda(spec, config.robot.drive, gravity_compensation=compensated, looks=looks)
    add_goal(spec)
    return spec


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    physics = env.physics
    qpos, qvel = physics.data("qpos"), physics.data("qvel")
    site_pos, site_mat = physics.data("site_xpos"), physics.data("site_xmat")
    tool = physics.model.site(panda.TOOL_SITE).id
    default = torch.tensor(env.config.robot.start_pose[:7], dtype=torch.float32, device=env.device)

    def read() -> State:
        return State(
            joint_pos=qpos[:, :7].to(torch.float32),
            joint_vel=qvel[:, :7].to(torch.float32),
            default_pos=default,
            tool_pos=site_pos[:, tool].to(torch.float32),
            tool_mat=site_mat[:, tool].to(torch.float32).view(-1, 3, 3),
            goal=env.commands["ee_pose"],
            held=env.memory["held"],
            action=env.action,
            last_action=env.last_action,
        )

    return read


def remember(env: Env, s: State) -> None:
    """Count for how long the tool has been at the goal."""
    near = s.position_error < NEAR
    s.held.add_(env.step_dt).mul_(torch.stack([near, near & (s.orientation_error < ALIGNED)], dim=1))


def position_tracking_fine_grained(s: State, *, std: float) -> torch.Tensor:
    """1 - tanh(‖tool - goal‖ / std)."""
    return 1.0 - torch.tanh(s.position_error / std)


def orientation_tracking_fine_grained(s: State, *, std: float) -> torch.Tensor:
    """1 - tanh(angle / std)."""
    return 1.0 - torch.tanh(s.orientation_error / std)


def success(s: State) -> torch.Tensor:
    """The tool has been within 2 cm and 10° of the goal for the last 0.5 s."""
    return s.held[:, 1] > HOLD_TIME - 1e-4


def success_2cm(s: State) -> torch.Tensor:
    """The same, whatever the orientation."""
    return (s.held[:, 0] > HOLD_TIME - 1e-4).to(torch.float32)


def sample_pose(
    env: Env,
    env_ids: torch.Tensor,
    *,
    x: list[float],
    y: list[float],
    z: list[float],
    yaw_deg: list[float],
) -> torch.Tensor:
    """Draw a pose with the tool pointing down: position (m) from a box, turned about the vertical."""
    drawn = env.random.uniform_in(env_ids, [x, y, z, [radians(angle) for angle in yaw_deg]])
    half, zero = drawn[:, 3] / 2.0, torch.zeros_like(drawn[:, 3])
    env.physics.data("mocap_pos")[env_ids, 0] = drawn[:, :3]
    # half a turn about x, which points the tool down, then the yaw: (cos, 0, 0, sin) (0, 1, 0, 0)
    quaternion = torch.stack([zero, half.cos(), half.sin(), zero], dim=1)
    return torch.cat([drawn[:, :3], quaternion], dim=1)


TASK = Task(
    scene=scene,
    actions=arm_only,
    reader=reader,
    memory={"held": 2},
    remember=remember,
    commands={"ee_pose": Command(sample_pose, dim=7)},
    events={"reset_robot": reset_robot},
    observations={
        "policy": {
            "joint_pos": lambda s: s.joint_pos - s.default_pos,
            "joint_vel": lambda s: s.joint_vel,
            "pose_command": lambda s: s.goal,
            "position_error": lambda s: s.goal[:, :3] - s.tool_pos,
            "orientation_error": lambda s: s.goal_in_tool[:, :, :2].flatten(1),
            "actions": lambda s: s.action,
        }
    },
    rewards={
        "end_effector_position_tracking": lambda s: s.position_error,
        "end_effector_position_tracking_fine_grained": position_tracking_fine_grained,
        "end_effector_orientation_tracking": lambda s: s.orientation_error,
        "end_effector_orientation_tracking_fine_grained": orientation_tracking_fine_grained,
        "action_rate": mdp.action_rate,
        "joint_vel": mdp.joint_vel,
    },
    success=success,
    metrics={
        "position_error": lambda s: s.position_error,
        "orientation_error": lambda s: s.orientation_error,
        "success_2cm": success_2cm,
    },
    poses_only=True,
)
