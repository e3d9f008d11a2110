"""The Franka Panda with its parallel gripper, built from the published kinematics and inertias.

Quaternions are wxyz. The base stands at the world's origin, its z axis up and the arm's front along x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import cos, inf, pi, sin

import mujoco

from rl_platform.physics.scene import OBJECTS, TABLE
from rl_platform.robots.panda_looks import add_looks

NUM_ARM_JOINTS = 7
ARM_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
JOINTS = ARM_JOINTS + FINGER_JOINTS
ARM_ACTUATORS = ARM_JOINTS
FINGER_ACTUATORS = FINGER_JOINTS
TOOL_SITE = "tool_center"
FINGER_OPEN = 0.04  # m, each finger's travel
FINGER_SPEED = 0.2  # m/s

# Craig's modified Denavit-Hartenberg parameters (m, m, rad): frame i is
# RotX(alpha) TransX(a) RotZ(q) TransZ(d) from frame i - 1 (Franka control interface documentation).
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -pi / 2),
    (0.0, 0.316, pi / 2),
    (0.0825, 0.0, pi / 2),
    (-0.0825, 0.384, -pi / 2),
    (0.0, 0.0, pi / 2),
    (0.088, 0.0, pi / 2),
)
FLANGE = 0.107  # m along link 7's z; the hand sits there, turned by -pi/4
HAND_TO_TOOL = 0.1034  # m along the hand's z, between the finger pads
HAND_TO_FINGERS = 0.0584  # m along the hand's z

JOINT_RANGE = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)  # rad
VELOCITY_LIMIT = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)  # rad/s
TORQUE_LIMIT = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m
READY_POSE = (0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4)  # rad
ISAAC_POSE = (0.0, -0.569, 0.0, -2.810, 0.0, 3.037, 0.741)  # rad, the hand tilted by 45 degrees

# Links 0 to 7, identified: mass (kg); centre of mass (m); inertia about it, xx yy zz xy xz yz (kg m²).
_MASS = (0.629769, 4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522)
_COM = (
    (-0.041018, -0.00014, 0.049974),
    (0.003875, 0.002081, -0.04762),
    (-0.003141, -0.02872, 0.003495),
    (0.027518, 0.039252, -0.066502),
    (-0.05317, 0.104419, 0.027454),
    (-0.011953, 0.041065, -0.038437),
    (0.060149, -0.014117, -0.010517),
    (0.010517, -0.004252, 0.061597),
)
_INERTIA = (
    (0.00315, 0.00388, 0.004285, 8.2904e-07, 0.00015, 8.2299e-06),
    (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
    (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
    (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
    (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
    (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
    (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
    (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
)
_HAND = (0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0))
_FINGER = (0.015, (0.0, 0.0, 0.0), (2.375e-6, 2.375e-6, 7.5e-7, 0.0, 0.0, 0.0))

# Capsules that meet the table: body, centre (m), axis, radius, length of the cylindrical part (m).
_CAPSULES = (
    ("link5", (0.0, 0.0, -0.26), "z", 0.06, 0.10),
    ("link5", (0.0, 0.08, -0.13), "z", 0.025, 0.14),
    ("link6", (0.0, 0.0, -0.03), "z", 0.05, 0.08),
    ("link7", (0.0, 0.0, 0.01), "z", 0.04, 0.14),
    ("hand", (0.0, 0.0, 0.04), "y", 0.04, 0.10),
    ("hand", (0.0, 0.0, 0.10 - 0.04), "y", 0.02, 0.10),
)
_AXIS_QUAT = {"z": (1.0, 0.0, 0.0, 0.0), "y": (cos(pi / 4), sin(pi / 4), 0.0, 0.0)}

# The rubber finger tip, in the finger's frame: 17.5 x 15.2 x 18.5 mm, its face at y = 0.
_PAD_CENTER = (0.0, 0.00758, 0.04525)
_PAD_HALF = (0.00875, 0.0076, 0.00925)
_PAD_RADIUS = 0.0044  # m, of the spheres that stand for it


@dataclass
class Drive:
    """How the joints are driven: position servos, torque = kp (target - q) - kd dq.

    Attributes:
        arm_kp: N m/rad, for each arm joint.
        arm_kd: N m s/rad, for each arm joint.
        finger_kp: N/m.
        finger_kd: N s/m. It brakes the joint, outside the servo's force limit: a finger's top speed is
            finger_force / finger_kd, the real one's 0.2 m/s by default.
        finger_force: N, limit of each finger's servo.
        arm_max_speed: rad/s, for each arm joint, which is braked by T (v / v_max)³, so that its servo's
            full torque T drives it no faster than v_max; slow motion does not feel it.
        armature: kg m², the motors' inertia seen at the arm's joints.
        finger_armature: kg, the motor's inertia seen at a finger.
    """

    arm_kp: list[float] = field(default_factory=lambda: [1000.0, 1000.0, 750.0, 750.0, 300.0, 300.0, 300.0])
    arm_kd: list[float] = field(default_factory=lambda: [80.0, 80.0, 60.0, 60.0, 15.0, 15.0, 15.0])
    finger_kp: float = 2000.0
    finger_kd: float = 100.0
    finger_force: float = 20.0
    arm_max_speed: list[float] = field(default_factory=lambda: [inf] * NUM_ARM_JOINTS)
    armature: float = 0.1
    finger_armature: float = 0.1


@dataclass
class Robot:
    """How the arm starts and how its joints are driven.

    Attributes:
        start_pose: rad, the seven arm joints, then m, the two fingers, at an episode's start.
        gravity_compensation: carry the weight of arm and hand, as the real robot's controller does.
        drive: gains and limits of the joints' servos.
    """

    start_pose: list[float]
    gravity_compensation: bool
    drive: Drive

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if len(self.start_pose) != len(JOINTS):
            yield "start_pose", f"must have {len(JOINTS)} values, got {len(self.start_pose)}"
        for name in ("arm_kp", "arm_kd"):
            values = getattr(self.drive, name)
            if len(values) != NUM_ARM_JOINTS or min(values, default=0.0) < 0.0:
                yield f"drive.{name}", f"must be {NUM_ARM_JOINTS} values of at least 0, got {values}"
        speeds = self.drive.arm_max_speed
        if len(speeds) != NUM_ARM_JOINTS or min(speeds) <= 0.0:
            yield "drive.arm_max_speed", f"must be {NUM_ARM_JOINTS} values above 0, got {speeds}"


def add_panda(
    spec: mujoco.MjSpec,
    drive: Drive | None = None,
    *,
    gravity_compensation: bool = True,
    looks: str = "primitives",
) -> None:
    """Add the robot to `spec`: bodies, joints, actuators, collision geometry, tool site and looks.

    Args:
        spec: the scene; its world body receives the robot's base.
        drive: gains and force limits; the default is stiff and about critically damped.
        gravity_compensation: carry the weight of arm and hand, as the real robot's controller does.
        looks: "none", "primitives" or "menagerie" (`panda_looks.add_looks`). They take a tenth of a step's
            time and change nothing else, so a scene that is only simulated goes without.
    """
    drive = drive or Drive()
    parent = spec.worldbody.add_body(name="link0")
    _set_inertia(parent, _MASS[0], _COM[0], _INERTIA[0])
    for i, (a, d, alpha) in enumerate(DH, start=1):
        body = parent.add_body(
            name=f"link{i}",
            pos=(a, -d * sin(alpha), d * cos(alpha)),
            quat=(cos(alpha / 2), sin(alpha / 2), 0.0, 0.0),
            # no weight turns joint 1, whose axis is vertical: compensating link 1 would cost and do nothing
            gravcomp=float(gravity_compensation and i > 1),
        )
        _set_inertia(body, _MASS[i], _COM[i], _INERTIA[i])
        body.add_joint(
            name=ARM_JOINTS[i - 1],
            axis=(0, 0, 1),
            range=JOINT_RANGE[i - 1],
            limited=True,
            armature=drive.armature,
            damping=(0.0, 0.0, TORQUE_LIMIT[i - 1] / drive.arm_max_speed[i - 1] ** 3),  # of v, v |v|, v³
        )
        parent = body
    _add_hand(parent, drive, gravity_compensation)
    _add_capsules(spec)
    _add_actuators(spec, drive)
    add_looks(spec, looks)


def _set_inertia(body: mujoco.MjsBody, mass: float, com: Sequence[float], inertia: Sequence[float]) -> None:
    body.mass, body.ipos, body.fullinertia = mass, com, inertia
    body.explicitinertial = True


def _add_hand(flange: mujoco.MjsBody, drive: Drive, gravity_compensation: bool) -> None:
    hand = flange.add_body(
        name="hand",
        pos=(0.0, 0.0, FLANGE),
        quat=(cos(-pi / 8), 0.0, 0.0, sin(-pi / 8)),
        gravcomp=float(gravity_compensation),
    )
    _set_inertia(hand, *_HAND)
    hand.add_site(name=TOOL_SITE, pos=(0.0, 0.0, HAND_TO_TOOL), size=(0.005, 0.005, 0.005), group=4)
    sides = (("left_finger", (1.0, 0.0, 0.0, 0.0)), ("right_finger", (0.0, 0.0, 0.0, 1.0)))
    for joint, (name, quat) in zip(FINGER_JOINTS, sides, strict=True):
        finger = hand.add_body(
            name=name, pos=(0.0, 0.0, HAND_TO_FINGERS), quat=quat, gravcomp=float(gravity_compensation)
        )
        _set_inertia(finger, *_FINGER)
        finger.add_joint(
            name=joint,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, 1, 0),
            range=(0.0, FINGER_OPEN),
            limited=True,
            armature=drive.finger_armature,
            damping=drive.finger_kd,
        )
        _add_pad(finger)


def _add_pad(finger: mujoco.MjsBody) -> None:
    """Two spheres that touch the pad's face, bottom and sides: a point contact each.

    Four contacts hold a box as firmly as the up to sixteen of box on box, and step a third faster.
    """
    for x in (-1, 1):
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(_PAD_RADIUS, 0, 0),
            pos=(x * (_PAD_HALF[0] - _PAD_RADIUS), _PAD_RADIUS, _PAD_CENTER[2] + _PAD_HALF[2] - _PAD_RADIUS),
            contype=0,
            conaffinity=TABLE | OBJECTS,
            condim=3,
            group=3,
        )


def _add_capsules(spec: mujoco.MjSpec) -> None:
    for body, center, axis, radius, length in _CAPSULES:
        spec.body(body).add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=(radius, length / 2, 0),
            pos=center,
            quat=_AXIS_QUAT[axis],
            contype=0,
            conaffinity=TABLE | OBJECTS if body == "hand" else TABLE,
            group=3,
        )


def _add_actuators(spec: mujoco.MjSpec, drive: Drive) -> None:
    for i, name in enumerate(ARM_JOINTS):
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=drive.arm_kp[i], kv=drive.arm_kd[i])
        actuator.forcelimited = actuator.ctrllimited = True
        actuator.forcerange = (-TORQUE_LIMIT[i], TORQUE_LIMIT[i])
        actuator.ctrlrange = JOINT_RANGE[i]
    for name in FINGER_JOINTS:
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=drive.finger_kp)
        actuator.forcelimited = actuator.ctrllimited = True
        actuator.forcerange = (-drive.finger_force, drive.finger_force)
        actuator.ctrlrange = (0.0, FINGER_OPEN)
