"""A humanoid of our own with the 21 torque-driven joints of the classic one, 1.5 m tall.

Capsules and spheres that meet the ground and not each other; two force-torque sensors in the feet.
"""

from __future__ import annotations

from math import radians

import mujoco
import numpy as np

from rl_platform.physics.scene import TABLE

START_HEIGHT = 1.34  # m, of the torso
DENSITY = 1000.0  # kg/m³

# Joint: N m for an action of 1. The order is that of the actions and of the observations' columns.
GEARS = {
    "abdomen_z": 67.5, "abdomen_y": 67.5, "abdomen_x": 67.5,
    "right_hip_x": 45.0, "right_hip_z": 45.0, "right_hip_y": 135.0, "right_knee": 90.0,
    "right_ankle_y": 22.5, "right_ankle_x": 22.5,
    "left_hip_x": 45.0, "left_hip_z": 45.0, "left_hip_y": 135.0, "left_knee": 90.0,
    "left_ankle_y": 22.5, "left_ankle_x": 22.5,
    "right_shoulder_1": 67.5, "right_shoulder_2": 67.5, "right_elbow": 45.0,
    "left_shoulder_1": 67.5, "left_shoulder_2": 67.5, "left_elbow": 45.0,
}  # fmt: skip
FEET = ("right_foot", "left_foot")

# Joint: axis for the right side, range in degrees, damping N m s/rad, stiffness N m/rad.
_JOINTS = {
    "abdomen_z": ((0, 0, 1), (-45, 45), 5.0, 20.0),
    "abdomen_y": ((0, 1, 0), (-75, 30), 5.0, 20.0),
    "abdomen_x": ((1, 0, 0), (-35, 35), 5.0, 10.0),
    "hip_x": ((1, 0, 0), (-45, 15), 5.0, 10.0),
    "hip_z": ((0, 0, 1), (-60, 35), 5.0, 10.0),
    "hip_y": ((0, 1, 0), (-120, 45), 5.0, 20.0),
    "knee": ((0, -1, 0), (-160, 2), 5.0, 5.0),
    "ankle_y": ((0, 1, 0), (-50, 50), 1.0, 4.0),
    "ankle_x": ((1, 0, 0.5), (-50, 50), 1.0, 4.0),
    "shoulder_1": ((2, 1, 1), (-90, 70), 1.0, 10.0),
    "shoulder_2": ((0, -1, 1), (-90, 70), 1.0, 10.0),
    "elbow": ((0, -1, 1), (-90, 50), 1.0, 2.0),
}
_ARMATURE = 0.02  # kg m²
_SKIN, _DARK = (0.32, 0.50, 0.62, 1), (0.20, 0.24, 0.28, 1)


def add_humanoid(spec: mujoco.MjSpec) -> None:
    """Add the robot, standing on the ground at the origin, x forward."""
    torso = spec.worldbody.add_body(name="torso", pos=(0.0, 0.0, START_HEIGHT))
    torso.add_freejoint(name="root")
    _capsule(torso, (0, -0.07, 0), (0, 0.07, 0), 0.07)
    _capsule(torso, (-0.01, -0.06, -0.12), (-0.01, 0.06, -0.12), 0.06)
    _sphere(torso, (0, 0, 0.19), 0.09)
    waist = torso.add_body(name="waist", pos=(-0.01, 0, -0.26))
    _joint(waist, "abdomen_z", 1, (0, 0, 0.065))
    _joint(waist, "abdomen_y", 1, (0, 0, 0.065))
    _capsule(waist, (0, -0.06, 0), (0, 0.06, 0), 0.06)
    pelvis = waist.add_body(name="pelvis", pos=(0, 0, -0.165))
    _joint(pelvis, "abdomen_x", 1, (0, 0, 0.1))
    _capsule(pelvis, (-0.02, -0.07, 0), (-0.02, 0.07, 0), 0.09)
    for side, sign in (("right", 1), ("left", -1)):
        _add_leg(spec, pelvis, side, sign)
    for side, sign in (("right", 1), ("left", -1)):
        _add_arm(torso, side, sign)
    for name, gear in GEARS.items():
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_motor()
        motor.gear = (gear, 0, 0, 0, 0, 0)
        motor.ctrllimited = True
        motor.ctrlrange = (-1.0, 1.0)


def _add_leg(spec: mujoco.MjSpec, pelvis: mujoco.MjsBody, side: str, sign: int) -> None:
    thigh = pelvis.add_body(name=f"{side}_thigh", pos=(0, -0.1 * sign, -0.04))
    for joint in ("hip_x", "hip_z", "hip_y"):
        _joint(thigh, f"{side}_{joint}", sign)
    _capsule(thigh, (0, 0, 0), (0, 0.01 * sign, -0.34), 0.06)
    shin = thigh.add_body(name=f"{side}_shin", pos=(0, 0.01 * sign, -0.403))
    _joint(shin, f"{side}_knee", sign, (0, 0, 0.02))
    _capsule(shin, (0, 0, 0), (0, 0, -0.3), 0.049)
    foot = shin.add_body(name=f"{side}_foot", pos=(0, 0, -0.39))
    _joint(foot, f"{side}_ankle_y", sign, (0, 0, 0.08))
    _joint(foot, f"{side}_ankle_x", sign, (0, 0, 0.04))
    _capsule(foot, (-0.07, -0.02 * sign, 0), (0.14, -0.04 * sign, 0), 0.027, _DARK)
    _capsule(foot, (-0.07, 0, 0), (0.14, 0.02 * sign, 0), 0.027, _DARK)
    site = foot.add_site(name=f"{side}_foot", size=(0.005, 0.005, 0.005), group=4)
    for kind in (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE):
        sensor = spec.add_sensor(name=f"{side}_foot_{kind.name[8:].lower()}", type=kind)
        sensor.objtype, sensor.objname = mujoco.mjtObj.mjOBJ_SITE, site.name


def _add_arm(torso: mujoco.MjsBody, side: str, sign: int) -> None:
    upper = torso.add_body(name=f"{side}_upper_arm", pos=(0, -0.17 * sign, 0.06))
    _joint(upper, f"{side}_shoulder_1", sign)
    _joint(upper, f"{side}_shoulder_2", sign)
    _capsule(upper, (0, 0, 0), (0.16, -0.16 * sign, -0.16), 0.04)
    lower = upper.add_body(name=f"{side}_lower_arm", pos=(0.18, -0.18 * sign, -0.18))
    _joint(lower, f"{side}_elbow", sign)
    _capsule(lower, (0.01, 0.01 * sign, 0.01), (0.17, 0.17 * sign, 0.17), 0.031)
    _sphere(lower, (0.18, 0.18 * sign, 0.18), 0.04)


def _joint(body: mujoco.MjsBody, name: str, sign: int, pos: tuple[float, ...] = (0, 0, 0)) -> None:
    """Add a joint; the left side's is the right side's in a mirror, where x and z turn the other way."""
    axis, limits, damping, stiffness = _JOINTS[name.removeprefix("right_").removeprefix("left_")]
    mirrored = np.array(axis, dtype=float) * (sign, 1, sign)
    body.add_joint(
        name=name,
        pos=pos,
        axis=mirrored / np.linalg.norm(mirrored),
        range=[radians(limit) for limit in limits],
        limited=True,
        damping=(damping, 0.0, 0.0),
        stiffness=(stiffness, 0.0, 0.0),
        armature=_ARMATURE,
    )


def _capsule(
    body: mujoco.MjsBody,
    begin: tuple[float, ...],
    end: tuple[float, ...],
    radius: float,
    rgba: tuple[float, ...] = _SKIN,
) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=(*begin, *end),
        size=(radius, 0, 0),
        density=DENSITY,
        contype=0,
        conaffinity=TABLE,
        rgba=rgba,
    )


def _sphere(body: mujoco.MjsBody, pos: tuple[float, ...], radius: float) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=(radius, 0, 0),
        pos=pos,
        density=DENSITY,
        contype=0,
        conaffinity=TABLE,
        rgba=_SKIN,
    )
