"""Push a cube over the table to a goal: EmbodiChain's `push_cube`, with a Panda."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import mujoco
import torch

from rl_platform.envs import mdp
from rl_platform.envs.config import EnvConfig
from rl_platform.envs.terms import Command, Task
from rl_platform.physics.scene import add_cube, add_goal, add_table_top, new_scene
from rl_platform.robots import panda
from rl_platform.tasks.manipulation import ArmOnly, arm_only, place_cube, reset_robot
from rl_platform.tensor_math import constant, planar_norm

if TYPE_CHECKING:
    from rl_platform.envs.env import Env

CUBE_EDGE = 0.1  # m
CUBE_MASS = 2.0  # kg
CUBE_FRICTION = 0.5  # a push above half of the height tips a cube over whose friction is 1
BEHIND = CUBE_EDGE / 2 + 0.06  # m from the cube's centre to where the hand, 10 cm wide, has room
REACH = (0.3, 0.8)  # m from the base: the ring in which the hand, held straight down, reaches the table
DRAWS = 16  # goals drawn for each episode, of which the first within reach counts
NEAR, NEARER = 0.1, 0.05  # m, the two distances to the goal that count as success
HOLD_TIME = 0.5  # s that the cube has to be there, up to the episode's end


@dataclass
class Config(EnvConfig):
    """Push cube's own numbers.

    Attributes:
        robot: how the arm starts and how its joints are driven.
        actions: how the policy drives the arm; the fingers stay closed.
    """

    robot: panda.Robot
    actions: ArmOnly


@dataclass
class State:
    """What the terms are functions of; float32, one row an environment.

    Attributes:
        joint_pos, joint_vel: of the arm, `(n, 7)`; rad, rad/s.
        tool_pos: between the closed finger tips, `(n, 3)` m.
        cube_pos, cube_vel: `(n, 3)` m, m/s.
        cube_mat: the cube's axes as columns, `(n, 3, 3)`.
        goal: on the table, `(n, 2)` m.
        held: s that the cube has been near the goal, for each of the two distances, `(n, 2)`.
        action, last_action: `(n, action_dim)`.
    """

    joint_pos: torch.Tensor
    joint_vel: torch.Tensor
    tool_pos: torch.Tensor
    cube_pos: torch.Tensor
    cube_vel: torch.Tensor
    cube_mat: torch.Tensor
    goal: torch.Tensor
    held: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor

    @cached_property
    def to_goal(self) -> torch.Tensor:
        """From the cube to the goal, `(n, 2)` m."""
        return self.goal - self.cube_pos[:, :2]

    @cached_property
    def goal_distance(self) -> torch.Tensor:
        """‖cube - goal‖ on the table, `(n,)` m."""
        return planar_norm(self.to_goal)

    @cached_property
    def to_behind(self) -> torch.Tensor:
        """From the tool to where the cube is pushed from, `(n, 3)` m: behind it, seen from the goal."""
        behind = self.cube_pos.clone()
        direction = self.to_goal / self.goal_distance.clamp(min=1e-3)[:, None]
        behind[:, :2] -= BEHIND * direction
        return behind - self.tool_pos


def scene(config: Config, looks: str = "none") -> mujoco.MjSpec:
    """A Panda at the origin behind a table, a cube on it, and a disc that shows the goal."""
    spec = new_scene(config.timestep)
    add_table_top(spec, looks=looks != "none")
    compensated = config.robot.gravity_compensation
    panda.add_panda(spec, config.robot.drive, gravity_compensation=compensated, looks=looks)
    add_cube(spec, edge=CUBE_EDGE, mass=CUBE_MASS, friction=CUBE_FRICTION, stiff=True)
    add_goal(spec, radius=NEAR, flat=True)
    return spec


def reader(env: Env) -> Callable[[], State]:
    """Return the function that reads the state off the simulations."""
    physics, model = env.physics, env.physics.model
    qpos, qvel = physics.data("qpos"), physics.data("qvel")
    site_pos, xmat = physics.data("site_xpos"), physics.data("xmat")
    tool, cube = model.site(panda.TOOL_SITE).id, model.body("cube").id
    q, v = model.joint("cube").qposadr[0], model.joint("cube").dofadr[0]

    def read() -> State:
        joints, velocities = qpos.to(torch.float32), qvel.to(torch.float32)
        return State(
            joint_pos=joints[:, :7],
            joint_vel=velocities[:, :7],
            tool_pos=site_pos[:, tool].to(torch.float32),
            cube_pos=joints[:, q : q + 3],
            cube_vel=velocities[:, v : v + 3],
            cube_mat=xmat[:, cube].to(torch.float32).view(-1, 3, 3),
            goal=env.commands["goal"],
            held=env.memory["held"],
            action=env.action,
            last_action=env.last_action,
        )

    return read


def remember(env: Env, s: State) -> None:
    """Count for how long the cube has been near the goal."""
    near = s.goal_distance[:, None] < constant((NEAR, NEARER), s.goal_distance)
    s.held.add_(env.step_dt).mul_(near)


def reaching_behind(s: State, *, gain: float) -> torch.Tensor:
    """1 - tanh(gain · ‖tool - place behind the cube‖)."""
    return 1.0 - torch.tanh(gain * s.to_behind.norm(dim=1))


def goal_tracking(s: State, *, std: float) -> torch.Tensor:
    """exp(-d² / (2 std²)) of the cube's distance d to the goal."""
    return torch.exp(-s.goal_distance.square() / (2.0 * std**2))


def approaching(s: State) -> torch.Tensor:
    """How fast the cube comes nearer to the goal, m/s."""
    return (s.cube_vel[:, :2] * s.to_goal).sum(1) / s.goal_distance.clamp(min=1e-2)


def success(s: State) -> torch.Tensor:
    """The cube has been within 10 cm of the goal for the last 0.5 s."""
    return s.held[:, 0] > HOLD_TIME - 1e-4


def success_5cm(s: State) -> torch.Tensor:
    """The same within 5 cm."""
    return (s.held[:, 1] > HOLD_TIME - 1e-4).to(torch.float32)


def object_dropped(s: State, *, x: list[float], y: list[float]) -> torch.Tensor:
    """The cube was pushed out of the part of the table where the arm can follow (m)."""
    place = s.cube_pos[:, :2]
    low, high = constant((x[0], y[0]), place), constant((x[1], y[1]), place)
    return ((place < low) | (place > high)).any(1)


def reset_cube(
    env: Env, env_ids: torch.Tensor, *, x: list[float], y: list[float], yaw_deg: list[float]
) -> None:
    """Put the cube onto the table (m), turned about z."""
    place_cube(env, env_ids, x=x, y=y, z=CUBE_EDGE / 2, yaw_deg=yaw_deg)


def sample_goal(
    env: Env, env_ids: torch.Tensor, *, x: list[float], y: list[float], minimum_distance: float
) -> torch.Tensor:
    """Draw the goal (m) from a box; one nearer to the cube than `minimum_distance` is moved away from it.

    Where the hand cannot get behind the cube and follow it straight to the goal, it is drawn again.
    """
    drawn = env.random.uniform_in(env_ids, [x, y] * DRAWS).view(-1, DRAWS, 2)
    joint = env.physics.model.joint("cube").qposadr[0]
    cube = env.physics.data("qpos")[env_ids, joint : joint + 2]
    apart = drawn - cube[:, None]
    longer = (minimum_distance / apart.norm(dim=2).clamp(min=1e-6)).clamp(min=1.0)
    goals = cube[:, None] + apart * longer[..., None]
    best = out_of_reach(cube[:, None].expand_as(goals), goals).argmin(1)
    goal = goals[torch.arange(len(env_ids), device=goals.device), best]
    env.physics.data("mocap_pos")[env_ids, 0, :2] = goal
    return goal


def out_of_reach(cube: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """How far a straight push leads the hand out of `REACH`, m: 0 where it can be done.

    Args:
        cube: where the cube is, `(…, 2)` m.
        goal: where it is to go, `(…, 2)` m.

    Returns:
        `(…)`, of the hand's path from `BEHIND` the cube to where the cube is `NEAR` the goal.
    """
    path = goal - cube
    length = path.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    start = cube - path / length * BEHIND
    push = path * (1.0 - NEAR / length).clamp(min=0.0)
    # the path's point nearest to the base, at the origin: the root of d‖start + t push‖²/dt
    t = (-(start * push).sum(-1) / push.square().sum(-1).clamp(min=1e-9)).clamp(0.0, 1.0)
    nearest = (start + t[..., None] * push).norm(dim=-1)
    farthest = torch.maximum(start.norm(dim=-1), (start + push).norm(dim=-1))
    return (REACH[0] - nearest).clamp(min=0.0) + (farthest - REACH[1]).clamp(min=0.0)


TASK = Task(
    scene=scene,
    actions=arm_only,
    reader=reader,
    memory={"held": 2},
    remember=remember,
    commands={"goal": Command(sample_goal, dim=2)},
    events={
        "reset_robot": reset_robot,
        "reset_cube": reset_cube,
        "cube_mass": mdp.body_mass("cube"),
        "cube_friction": mdp.geom_friction("cube"),
    },
    observations={
        "policy": {
            "joint_pos": lambda s: s.joint_pos,
            "joint_vel": lambda s: s.joint_vel,
            "tool_pos": lambda s: s.tool_pos,
            "cube_pos": lambda s: s.cube_pos,
            "cube_vel": lambda s: s.cube_vel[:, :2],
            "cube_axes": lambda s: s.cube_mat[:, :2, 0],
            "goal": lambda s: s.goal,
            "cube_in_tool": lambda s: s.cube_pos - s.tool_pos,
            "behind_in_tool": lambda s: s.to_behind,
            "cube_to_goal": lambda s: s.to_goal,
            "actions": lambda s: s.action,
        }
    },
    rewards={
        "reaching_behind": reaching_behind,
        "goal_tracking": goal_tracking,
        "approaching": approaching,
        "success": lambda s: (s.goal_distance < NEAR).to(torch.float32),
        "action_rate": lambda s: (s.action - s.last_action).norm(dim=1),
        "action_size": mdp.action_size,
    },
    terminations={"object_dropped": object_dropped},
    success=success,
    metrics={"position_error": lambda s: s.goal_distance, "success_5cm": success_5cm},
    poses_only=True,
)
