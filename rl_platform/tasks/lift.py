"""Lift: grasp a cube on a table and carry it to a goal in the air.

The task of Isaac Lab's `manipulation/lift` (`lift_isaac.py` has its tables), driven at the tool and
rewarded for a grasp, so that it is learnt in a minute on two cores. Positions are in the robot's base
frame, which is the world's; the table's top is z = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import mujoco
import torch
from torch.linalg import vector_norm

from rl_platform.envs import mdp
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Command, Task
from rl_platform.physics.scene import (
    TABLE_CENTRE,
    TABLE_HALF,
    add_cube,
    add_goal,
    add_table_top,
    new_scene,
)
from rl_platform.robots import panda
from rl_platform.tasks.manipulation import ArmAndGripper, arm_and_gripper, place_cube, reset_robot
from rl_platform.tensor_math import constant

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

CUBE_EDGE = 0.04  # m
CUBE_MASS = 0.05  # kg
FINGER_DEPTH = 0.02  # m: a cube whose centre is nearer to the tool than this is between the pads
NEAR, NEARER = 0.05, 0.02  # m, the two distances to the goal that count as success
HOLD_TIME = 0.5  # s that the cube has to stay there, up to the episode's end


@dataclass
class Config(EnvConfig):
    """Lift's own numbers.

    Attributes:
        robot: how the arm starts and how its joints are driven.
        actions: how the policy drives arm and gripper.
        stiff_cube: whether its contacts are as stiff as the time step can follow; see `add_cube`.
    """

    robot: panda.Robot
    actions: ArmAndGripper
    stiff_cube: bool


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment.

    It is read as far as it is asked for, and when: who keeps a state over a step has to ask before.

    Attributes:
        live: where it is read: views of the simulations' own tensors, by the names of the properties.
        default_pos: the joints at an episode's start, `(9,)`.
        goal: `(n, 3)` m.
        held: s that the cube has been near the goal without a break, for each of the two distances, `(n, 2)`.
        action, last_action: `(n, action_dim)`.
    """

    live: Mapping[str, torch.Tensor]
    default_pos: torch.Tensor
    goal: torch.Tensor
    held: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor

    @cached_property
    def joint_pos(self) -> torch.Tensor:
        """Arm and fingers, `(n, 9)` rad, m."""
        return self.live["joint_pos"].to(torch.float32)

    @cached_property
    def joint_vel(self) -> torch.Tensor:
        """Of the same, `(n, 9)` rad/s, m/s."""
        return self.live["joint_vel"].to(torch.float32)

    @cached_property
    def tool_pos(self) -> torch.Tensor:
        """Between the finger tips, `(n, 3)` m."""
        return self.live["tool_pos"].to(torch.float32)

    @cached_property
    def tool_mat(self) -> torch.Tensor:
        """The tool's axes as columns, world frame, `(n, 3, 3)`; y is the closing direction."""
        return self.live["tool_mat"].to(torch.float32)

    @cached_property
    def cube_pos(self) -> torch.Tensor:
        """`(n, 3)` m."""
        return self.live["cube_pos"].to(torch.float32)

    @cached_property
    def cube_vel(self) -> torch.Tensor:
        """`(n, 3)` m/s."""
        return self.live["cube_vel"].to(torch.float32)

    @cached_property
    def cube_mat(self) -> torch.Tensor:
        """The cube's axes as columns, world frame, `(n, 3, 3)`."""
        return self.live["cube_mat"].to(torch.float32)

    @cached_property
    def cube_to_goal(self) -> torch.Tensor:
        """From the cube to the goal, `(n, 3)` m."""
        return self.goal - self.cube_pos

    @cached_property
    def goal_distance(self) -> torch.Tensor:
        """‖cube - goal‖, `(n,)` m."""
        return vector_norm(self.cube_to_goal, dim=1)

    @cached_property
    def tool_to_cube(self) -> torch.Tensor:
        """From the tool to the cube, `(n, 3)` m."""
        return self.cube_pos - self.tool_pos

    @cached_property
    def reach(self) -> torch.Tensor:
        """‖tool - cube‖, `(n,)` m; 0 where the cube is held."""
        return vector_norm(self.tool_to_cube, dim=1).masked_fill_(self.grasped, 0.0)

    @cached_property
    def cube_in_tool(self) -> torch.Tensor:
        """The cube's centre in the tool's axes, `(n, 3)` m."""
        return torch.bmm(self.tool_to_cube[:, None], self.tool_mat)[:, 0]

    @cached_property
    def grasped(self) -> torch.Tensor:
        """Whether the cube is between the pads, and the fingers are closed upon it, `(n,)` bool."""
        between = self.cube_in_tool.abs().amax(1) < FINGER_DEPTH
        return between & (self.joint_pos[:, 7] + self.joint_pos[:, 8] < CUBE_EDGE * 1.1)

    @cached_property
    def lasting(self) -> torch.Tensor:
        """Whether it has been near the goal for long enough, for each of the two distances, `(n, 2)` bool."""
        return self.held > HOLD_TIME - 1e-4


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """A Panda at the origin behind a table, a cube on it, and a sphere that shows the goal."""
    spec = new_scene(config.timestep)
    add_table_top(spec, looks=looks != "none")
    compensated = config.robot.gravity_compensation
    panda.add_panda(spec, config.robot.drive, gravity_compensation=compensated, looks=looks)
    add_cube(spec, edge=CUBE_EDGE, mass=CUBE_MASS, stiff=config.stiff_cube)
    add_goal(spec)
    return spec


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    physics, model = env.physics, env.physics.model
    qpos, qvel = physics.data("qpos"), physics.data("qvel")
    site_pos, site_mat, xmat = physics.data("site_xpos"), physics.data("site_xmat"), physics.data("xmat")
    tool, cube = model.site(panda.TOOL_SITE).id, model.body("cube").id
    q, v = model.joint("cube").qposadr[0], model.joint("cube").dofadr[0]
    command = next(iter(env.commands))
    default = torch.tensor(env.config.robot.start_pose, dtype=torch.float32, device=env.device)
    live = {
        "joint_pos": qpos[:, :9],
        "joint_vel": qvel[:, :9],
        "tool_pos": site_pos[:, tool],
        "tool_mat": site_mat[:, tool].view(-1, 3, 3),
        "cube_pos": qpos[:, q : q + 3],
        "cube_vel": qvel[:, v : v + 3],
        "cube_mat": xmat[:, cube].view(-1, 3, 3),
    }

    def read() -> State:
        held = env.memory["held"]
        return State(live, default, env.commands[command], held, env.action, env.last_action)

    return read


def remember(env: Env, s: State) -> None:
    """Count for how long the cube has been near the goal."""
    near = s.goal_distance[:, None] < constant((NEAR, NEARER), s.goal_distance)
    s.held.add_(env.step_dt).mul_(near)


def reaching(s: State, *, std: float) -> torch.Tensor:
    """1 - tanh(‖tool - cube‖ / std); 1 where the cube is held, lest pulling on it pay more than lifting."""
    return 1.0 - (s.reach / std).tanh_()


def pressing(s: State, *, clearance: float) -> torch.Tensor:
    """How far the tool is below `clearance` (m) above the table, as a share of it: finger tips bump there."""
    return (1.0 - s.tool_pos[:, 2] / clearance).relu_()


def knocking(s: State) -> torch.Tensor:
    """Speed of a cube that is not held, m/s: it was hit, or dropped."""
    return vector_norm(s.cube_vel, dim=1).masked_fill_(s.grasped, 0.0)


def grasping(s: State) -> torch.Tensor:
    """1 while the fingers hold the cube."""
    return s.grasped.to(torch.float32)


def lifting(s: State, *, height: float) -> torch.Tensor:
    """[grasped] min(rise of the cube / height, 1)."""
    return ((s.cube_pos[:, 2] - CUBE_EDGE / 2) / height).clamp_(0.0, 1.0).mul_(s.grasped)


def goal_tracking(s: State, *, std: float) -> torch.Tensor:
    """[grasped] (1 - tanh(‖cube - goal‖ / std))."""
    return (1.0 - (s.goal_distance / std).tanh_()).mul_(s.grasped)


def success(s: State) -> torch.Tensor:
    """The cube has been within 5 cm of the goal for the last 0.5 s."""
    return s.lasting[:, 0]


def success_2cm(s: State) -> torch.Tensor:
    """The same within 2 cm."""
    return s.lasting[:, 1].to(torch.float32)


def object_dropped(s: State) -> torch.Tensor:
    """The cube fell off the table: it lies on the endless plane beyond the edge of the one that is seen."""
    place = s.cube_pos[:, :2]
    beyond = ((place - constant(TABLE_CENTRE, place)).abs() > constant(TABLE_HALF, place)).any(1)
    return beyond & (s.cube_pos[:, 2] < CUBE_EDGE)


def reset_cube(
    env: Env,
    env_ids: torch.Tensor,
    *,
    x: list[float],
    y: list[float],
    z: float,
    yaw_deg: list[float],
    training_margin: float,
) -> None:
    """Put the cube's centre into a box (m), turned about z.

    In training the box is larger by `training_margin` (m) on each side: what is rare there, a cube in the
    farthest corner, is then no longer at the edge of what was learnt.
    """
    margin = training_margin if env.training else 0.0
    x, y = ([low - margin, high + margin] for low, high in (x, y))
    place_cube(env, env_ids, x=x, y=y, z=z, yaw_deg=yaw_deg)


def start_grasped(env: Env, env_ids: torch.Tensor, *, probability: float) -> None:
    """Let some training episodes begin with the cube in the hand, so that carrying is learnt beside grasping.

    Evaluation and play never do (`env.training` is false there).
    """
    if not env.training:
        return
    chosen = env_ids[env.random.uniform(env_ids, 1)[:, 0] < probability]
    if not len(chosen):
        return
    physics, model = env.physics, env.physics.model
    joint, tool = model.joint("cube").qposadr[0], model.site(panda.TOOL_SITE).id
    physics.forward(chosen)
    physics.data("qpos")[chosen, joint : joint + 3] = physics.data("site_xpos")[chosen, tool]
    physics.data("qpos")[chosen, 7:9] = CUBE_EDGE / 2
    physics.data("ctrl")[chosen, 7:9] = 0.0


def sample_goal(
    env: Env,
    env_ids: torch.Tensor,
    *,
    x: list[float],
    y: list[float],
    z: list[float],
    relative_to_cube: bool,
) -> torch.Tensor:
    """Draw the goal (m) from a box, or from one around the cube; the sphere in the scene shows it."""
    goal = env.random.uniform_in(env_ids, [x, y, z])
    if relative_to_cube:
        joint = env.physics.model.joint("cube").qposadr[0]
        goal = goal + env.physics.data("qpos")[env_ids, joint : joint + 3]
    env.physics.data("mocap_pos")[env_ids, 0] = goal
    return goal


TASK = Task(
    scene=scene,
    actions=arm_and_gripper,
    reader=reader,
    memory={"held": 2},
    remember=remember,
    commands={"goal": Command(sample_goal, dim=3)},
    events={
        "reset_robot": reset_robot,
        "reset_cube": reset_cube,
        "start_grasped": start_grasped,
        "cube_mass": mdp.body_mass("cube"),
        "cube_friction": mdp.geom_friction("cube"),
    },
    observations={
        "policy": {
            "fingers": lambda s: s.joint_pos[:, 7:] - 0.02,
            "tool_pos": lambda s: s.tool_pos,
            "cube_in_tool": lambda s: s.cube_in_tool,
            "cube_axes": lambda s: s.cube_mat[:, :2, 0],
            "cube_to_goal": lambda s: s.cube_to_goal,
        }
    },
    rewards={
        "reaching": reaching,
        "reaching_fine": reaching,
        "grasping": grasping,
        "lifting": lifting,
        "goal_tracking": goal_tracking,
        "goal_tracking_fine": goal_tracking,
        "success": lambda s: success(s).to(torch.float32),
        "pressing": pressing,
        "knocking": knocking,
        "action_rate": mdp.action_rate,
        "action_size": mdp.action_size,
    },
    terminations={"object_dropped": object_dropped},
    success=success,
    metrics={"position_error": lambda s: s.goal_distance, "success_2cm": success_2cm},
    poses_only=True,
)
