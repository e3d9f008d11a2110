"""Isaac Lab's lift (`Isaac-Lift-Cube-Franka-v0`), table by table, on the parts of `lift.py`.

Reward weights, ranges, gains and times are in `conf/env/lift_isaac.yaml` as that project has them.
"""

from __future__ import annotations

import torch

from rl_platform.envs import mdp
from rl_platform.envs.terms import Command, Task
from rl_platform.tasks import lift
from rl_platform.tasks.lift import State
from rl_platform.tasks.manipulation import arm_and_gripper, reset_robot
from rl_platform.tensor_math import constant

Config = lift.Config  # by this name the registry finds the schema: the same keys as lift's


def commanded_pose(s: State) -> torch.Tensor:
    """The goal as position (m) and quaternion wxyz, which is always upright: `(n, 7)`."""
    upright = constant((1.0, 0.0, 0.0, 0.0), s.goal).expand(len(s.goal), 4)
    return torch.cat([s.goal, upright], dim=1)


def reaching_object(s: State, *, std: float) -> torch.Tensor:
    """1 - tanh(‖tool - cube‖ / std)."""
    return 1.0 - torch.tanh((s.tool_pos - s.cube_pos).norm(dim=1) / std)


def lifting_object(s: State, *, minimal_height: float) -> torch.Tensor:
    """1 while the cube's centre is above `minimal_height` (m)."""
    return (s.cube_pos[:, 2] > minimal_height).to(torch.float32)


def object_goal_tracking(s: State, *, std: float, minimal_height: float) -> torch.Tensor:
    """[z > minimal_height] (1 - tanh(‖cube - goal‖ / std))."""
    return lifting_object(s, minimal_height=minimal_height) * (1.0 - torch.tanh(s.goal_distance / std))


def orientation_error(s: State) -> torch.Tensor:
    """Angle between the cube's axes and the commanded, upright ones, rad."""
    cosine = (s.cube_mat.diagonal(dim1=1, dim2=2).sum(1) - 1.0) / 2.0
    return torch.acos(cosine.clamp(-1.0, 1.0))


def reached_goal(s: State, *, threshold: float) -> torch.Tensor:
    """The cube is within `threshold` (m) of the goal."""
    return s.goal_distance < threshold


TASK = Task(
    scene=lift.scene,
    actions=arm_and_gripper,
    reader=lift.reader,
    memory={"held": 2},
    remember=lift.remember,
    commands={"object_pose": Command(lift.sample_goal, dim=3)},
    events={
        "reset_robot": reset_robot,
        "reset_object": lift.reset_cube,
        "object_mass": mdp.body_mass("cube"),
        "object_friction": mdp.geom_friction("cube"),
    },
    observations={
        "policy": {
            "joint_pos": lambda s: s.joint_pos - s.default_pos,
            "joint_vel": lambda s: s.joint_vel,
            "object_position": lambda s: s.cube_pos,
            "target_object_position": commanded_pose,
            "actions": lambda s: s.action,
        }
    },
    rewards={
        "reaching_object": reaching_object,
        "lifting_object": lifting_object,
        "object_goal_tracking": object_goal_tracking,
        "object_goal_tracking_fine_grained": object_goal_tracking,
        "action_rate": mdp.action_rate,
        "joint_vel": mdp.joint_vel,
    },
    terminations={"object_dropped": lift.object_dropped, "success": reached_goal},
    success=lift.success,
    metrics={
        "object_pose/position_error": lambda s: s.goal_distance,
        "object_pose/orientation_error": orientation_error,
        "success_2cm": lift.success_2cm,
    },
    curriculum={"action_rate": mdp.reward_weight, "joint_vel": mdp.reward_weight},
    poses_only=True,
)
