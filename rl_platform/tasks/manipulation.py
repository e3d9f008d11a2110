"""What the tasks with the Panda share: how a policy drives it, and how it starts."""

from __future__ import annotations

from dataclasses import dataclass
from math import radians
from typing import TYPE_CHECKING, Any

import torch

from rl_platform.envs.actions import ActionTerm
from rl_platform.envs.arm import Arm, ArmAction, GripperAction, arm_action, gripper_action
from rl_platform.physics.scene import actuator_ids, joint_ids
from rl_platform.robots import panda

if TYPE_CHECKING:
    from rl_platform.envs.env import Env


@dataclass
class ArmAndGripper:
    """The two parts of an action, in this order."""

    arm: ArmAction
    gripper: GripperAction


@dataclass
class ArmOnly:
    """The action of a task in which the fingers stay as they start."""

    arm: ArmAction


def arm_and_gripper(env: Env) -> dict[str, Any]:
    """The arm's and the gripper's action terms."""
    fingers = actuator_ids(env.physics.model, panda.FINGER_ACTUATORS).tolist()
    return {"arm": _arm(env), "gripper": gripper_action(env.physics, fingers, env.config.actions.gripper)}


def arm_only(env: Env) -> dict[str, Any]:
    """The arm's action term."""
    return {"arm": _arm(env)}


def _arm(env: Env) -> ActionTerm:
    model = env.physics.model
    arm = Arm(
        actuators=actuator_ids(model, panda.ARM_ACTUATORS).tolist(),
        joints=[model.joint(name).id for name in panda.ARM_JOINTS],
        qpos_ids=joint_ids(model, panda.ARM_JOINTS)[0].tolist(),
        site=model.site(panda.TOOL_SITE).id,
        default=env.config.robot.start_pose[:7],
    )
    return arm_action(env.physics, arm, env.config.actions.arm)


def reset_robot(env: Env, env_ids: torch.Tensor, *, joint_noise: float) -> None:
    """Put the arm at its start pose ± joint_noise (rad), at rest, with targets there."""
    physics = env.physics
    start = torch.tensor(env.config.robot.start_pose, dtype=physics.dtype, device=env.device)
    noise = env.random.uniform_in(env_ids, [[-1.0, 1.0]] * 7)
    joints = start.repeat(len(env_ids), 1)
    joints[:, :7] += joint_noise * noise
    physics.data("qpos")[env_ids, :9] = joints
    physics.data("ctrl")[env_ids] = joints


def place_cube(
    env: Env, env_ids: torch.Tensor, *, x: list[float], y: list[float], z: float, yaw_deg: list[float]
) -> None:
    """Put the centre of the body "cube" into a box (m) at the height z, turned about the vertical."""
    joint = env.physics.model.joint("cube").qposadr[0]
    drawn = env.random.uniform_in(env_ids, [x, y, [radians(angle) for angle in yaw_deg]])
    half = drawn[:, 2] / 2.0
    zero, height = torch.zeros_like(half), torch.full_like(half, z)
    pose = torch.stack([drawn[:, 0], drawn[:, 1], height, half.cos(), zero, zero, half.sin()], dim=1)
    env.physics.data("qpos")[env_ids, joint : joint + 7] = pose
