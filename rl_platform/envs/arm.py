"""Ways to drive an arm and its gripper: joint targets, or the tool's pose by inverse kinematics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from rl_platform import chosen
from rl_platform.envs.actions import (
    ActionTerm,
    JointPosition,
    RelativeJointPosition,
    Stateless,
    columns,
    control_ranges,
    unit_bounds,
)
from rl_platform.physics.base import Physics


@dataclass
class ArmAction:
    """How the policy drives an arm.

    Attributes:
        mode: joint_position, relative_joint_position, relative_ee_pose or absolute_ee_pose.
        scale: what an action of 1 means: rad in the joint modes, m in relative_ee_pose.
        rotation: end-effector modes: "none" (the orientation is held), "yaw" or "full".
        rotation_scale: rad for an action of 1, end-effector modes.
        max_lead: rad, how far a joint's target may be ahead of the joint (not in joint_position).
        damping: λ of the damped least squares, end-effector modes.
        workspace: [low, high] of x, y and z in m that actions -1 … 1 span in absolute_ee_pose.
    """

    mode: str
    scale: float
    rotation: str
    rotation_scale: float
    max_lead: float
    damping: float
    workspace: list[list[float]]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        modes = ("joint_position", "relative_joint_position", "relative_ee_pose", "absolute_ee_pose")
        if self.mode not in modes:
            yield "mode", f"must be one of {', '.join(modes)}, got {self.mode}"
        if self.rotation not in ("none", "yaw", "full"):
            yield "rotation", f"must be none, yaw or full, got {self.rotation}"
        for name in ("scale", "max_lead", "damping"):
            if not getattr(self, name) > 0.0:
                yield name, f"must be above 0, got {getattr(self, name)}"


@dataclass
class GripperAction:
    """How the policy drives the gripper.

    Attributes:
        mode: binary (a < 0 closes) or continuous (-1 closes, 1 opens).
        closed: m, the fingers' target when closed.
        opened: m, the fingers' target when open.
    """

    mode: str
    closed: float
    opened: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if self.mode not in ("binary", "continuous"):
            yield "mode", f"must be binary or continuous, got {self.mode}"


@dataclass(frozen=True)
class Arm:
    """Where an arm's parts are in the model: actuators, joints, their places in qpos, the tool's site."""

    actuators: Sequence[int]
    joints: Sequence[int]
    qpos_ids: Sequence[int]
    site: int
    default: Sequence[float]


def arm_action(physics: Physics, arm: Arm, config: ArmAction) -> ActionTerm:
    """Build the arm's action term."""
    if config.mode == "joint_position":
        default = torch.as_tensor(arm.default, dtype=physics.dtype, device=physics.device)
        return JointPosition(physics, arm.actuators, default, config.scale)
    if config.mode == "relative_joint_position":
        return RelativeJointPosition(physics, arm.actuators, arm.qpos_ids, config.scale, config.max_lead)
    return EndEffectorPose(physics, arm, config)


def gripper_action(physics: Physics, actuators: Sequence[int], config: GripperAction) -> ActionTerm:
    """Build the gripper's action term."""
    kind = BinaryGripper if config.mode == "binary" else ContinuousGripper
    return kind(physics, actuators, config.closed, config.opened)


class EndEffectorPose:
    """The tool's pose by differential inverse kinematics, damped least squares.

    Δq = Jᵀ (J Jᵀ + λ² I)⁻¹ e (Wampler 1986, eq. 17), with the pose error e and joint targets q + Δq,
    each at most `max_lead` rad ahead of its joint.

    relative: the desired position moves by scale · action (m) from the *measured* one, and the
        orientation by rotation_scale · action (rad, world axes) from the desired one.
    absolute: the action is the desired position, scaled to the box `workspace`, and a rotation
        vector (in units of rotation_scale) from the orientation at the episode's start.

    `rotation` says which rotations an action has: "none" (the orientation at the episode's start is
    held; 3 columns), "yaw" (4 columns) or "full" (6).
    """

    def __init__(self, physics: Physics, arm: Arm, config: ArmAction) -> None:
        """Drive `arm` so that its tool site follows."""
        axes = {"none": [], "yaw": [2], "full": [0, 1, 2]}[config.rotation]
        self._rotation_axes = columns(axes) if axes else None
        self.dim = 3 + len(axes)
        self.low, self.high = unit_bounds(self.dim, physics.device)
        self._ctrl, self._qpos = physics.data("ctrl"), physics.data("qpos")
        # live, with the environments last
        self._axis, self._anchor = (physics.data(name).permute(2, 1, 0) for name in ("xaxis", "xanchor"))
        device, dtype = physics.device, physics.dtype
        self._actuators, self._qpos_ids = columns(arm.actuators, device), columns(arm.qpos_ids, device)
        self._joints = columns(arm.joints, device)
        # live: the tool's place, and its axes as columns
        self._tool_pos = physics.data("site_xpos")[:, arm.site]
        self._tool_mat = physics.data("site_xmat")[:, arm.site].view(-1, 3, 3)
        self._relative = config.mode == "relative_ee_pose"
        self._scale, self._rotation_scale = config.scale, config.rotation_scale
        self._max_lead, self._damping = config.max_lead, config.damping
        self._low, self._high = control_ranges(physics, arm.actuators)
        self._workspace = torch.as_tensor(config.workspace, dtype=dtype, device=device)
        # what an action turns from: the desired orientation (relative), or the one at the episode's start
        self._turned_from = torch.eye(3, dtype=dtype, device=device).repeat(physics.num_envs, 1, 1)

    def reset(self, which: torch.Tensor) -> None:
        """Take the orientation at the episode's start as the desired one."""
        chosen.put(self._turned_from, which, chosen.take(self._tool_mat, which))

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        error = self._pose_error(action.to(self._qpos.dtype))
        step = damped_least_squares(self._jacobian(), error, self._damping)
        target = step.clamp_(-self._max_lead, self._max_lead).add_(self._qpos[:, self._qpos_ids])
        self._ctrl[:, self._actuators] = target.clamp_(self._low, self._high)

    def _pose_error(self, action: torch.Tensor) -> torch.Tensor:
        """Desired minus measured pose, `(num_envs, 6)`: m, then sin(angle) · axis."""
        desired = self._turned_from
        if self._rotation_axes is not None:
            rotation = torch.zeros_like(action[:, :3])
            rotation[:, self._rotation_axes] = self._rotation_scale * action[:, 3:]
            desired = rotation_matrix(rotation) @ desired
            if self._relative:
                self._turned_from.copy_(desired)
        if self._relative:
            move = self._scale * action[:, :3]
        else:
            low, high = self._workspace.unbind(1)
            move = low + (high - low) * (action[:, :3] + 1.0) / 2.0 - self._tool_pos
        return torch.cat([move, orientation_error(desired, self._tool_mat)], dim=1)

    def _jacobian(self) -> torch.Tensor:
        """The site's geometric Jacobian, `(6, len(joints), num_envs)`: dp = axis × (p - anchor) dq.

        Component i of a × b is aⱼ bₖ - aₖ bⱼ: rows that go on with x and y after z have j and k in slices.
        """
        axis, anchor = self._axis[:, self._joints], self._anchor[:, self._joints]
        rows, lever = axis.new_empty(8, *axis.shape[1:]), axis.new_empty(5, *axis.shape[1:])
        rows[3:6] = axis
        rows[6:] = rows[3:5]
        torch.sub(self._tool_pos.t()[:, None], anchor, out=lever[:3])
        lever[3:] = lever[:2]
        linear = torch.mul(rows[4:7], lever[2:5], out=rows[:3])
        linear.addcmul_(rows[5:8], lever[1:4], value=-1.0)
        return rows[:6]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the orientations that actions turn from."""
        return {"desired" if self._relative else "start": self._turned_from.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._turned_from.copy_(state["desired" if self._relative else "start"])


class BinaryGripper(Stateless):
    """Closes for a < 0, opens otherwise."""

    def __init__(self, physics: Physics, actuators: Sequence[int], closed: float, opened: float) -> None:
        """Drive the fingers' `actuators` between two positions (m)."""
        self.dim = 1
        self.low, self.high = unit_bounds(self.dim, physics.device)
        self._ctrl, self._actuators = physics.data("ctrl"), columns(actuators, physics.device)
        self._closed, self._opened = closed, opened

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        target = torch.where(action < 0.0, self._closed, self._opened)
        self._ctrl[:, self._actuators] = target.to(self._ctrl.dtype)


class ContinuousGripper(Stateless):
    """Finger target = middle + half range · a (m): -1 closes, 1 opens."""

    def __init__(self, physics: Physics, actuators: Sequence[int], closed: float, opened: float) -> None:
        """Drive the fingers' `actuators` between two positions (m)."""
        self.dim = 1
        self.low, self.high = unit_bounds(self.dim, physics.device)
        self._ctrl, self._actuators = physics.data("ctrl"), columns(actuators, physics.device)
        self._middle, self._half_range = (closed + opened) / 2.0, (opened - closed) / 2.0

    def apply(self, action: torch.Tensor) -> None:
        """See the class."""
        self._ctrl[:, self._actuators] = self._middle + self._half_range * action


def damped_least_squares(jacobian: torch.Tensor, error: torch.Tensor, damping: float) -> torch.Tensor:
    """Solve Δq = Jᵀ (J Jᵀ + λ² I)⁻¹ e; `(m, k, n)` and `(n, m)` give `(n, k)`.

    The Jacobian has the environments last, so that each operation here is one on long vectors.
    """
    gram = (jacobian[:, None] * jacobian[None]).sum(2)
    gram.diagonal().add_(damping**2)
    # λ² keeps the matrices regular: looking whether they were would wait for the device
    solved = torch.linalg.solve_ex(gram.permute(2, 0, 1), error).result
    return (jacobian * solved.t()[:, None]).sum(0).t()


def orientation_error(desired: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """Rotation from `measured` to `desired` as sin(angle) · axis in world axes; `(n, 3, 3)` → `(n, 3)`.

    e = ½ (n × n_d + s × s_d + a × a_d) over the columns of the two (Luh, Walker & Paul 1980, eq. 22).
    """
    return 0.5 * torch.linalg.cross(measured, desired, dim=1).sum(2)


def rotation_matrix(rotation: torch.Tensor) -> torch.Tensor:
    """Rotation matrices `(n, 3, 3)` of rotation vectors `(n, 3)` in rad (Rodrigues' formula).

    R = I + sin(θ)/θ K + (1 - cos θ)/θ² K², with K the cross-product matrix of the vector.
    """
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)[None]
    angle = rotation.norm(dim=1)[:, None, None]
    k = torch.linalg.cross(rotation[:, None, :], identity).transpose(1, 2)
    # sin(θ)/θ = sinc(θ/π), and (1 - cos θ)/θ² = ½ sinc²(θ/2π): both smooth at zero
    sinc, half = torch.sinc(angle / torch.pi), torch.sinc(angle / (2.0 * torch.pi))
    return identity + sinc * k + 0.5 * half**2 * (k @ k)
