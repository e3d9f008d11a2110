"""A four-legged robot of our own with twelve position-controlled joints, the size of a small dog (13 kg)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco

from rl_platform.physics.scene import TABLE

LEGS = {"front_left": (1, 1), "front_right": (1, -1), "rear_left": (-1, 1), "rear_right": (-1, -1)}
JOINTS = tuple(f"{leg}_{part}" for leg in LEGS for part in ("hip", "thigh", "knee"))
STAND = (0.0, 0.8, -1.6)  # rad: hip, thigh and knee of a standing leg
STAND_HEIGHT = 0.31  # m, of the trunk
_RANGE = {"hip": (-0.8, 0.8), "thigh": (-0.6, 2.2), "knee": (-2.6, -0.6)}  # rad
_LINK = 0.21  # m, length of thigh and shank
_FOOT = 0.022  # m, radius
_TRUNK = (0.19, 0.07, 0.05)  # m, half sizes
_MASS = {"trunk": 7.0, "hip": 0.5, "thigh": 0.8, "shank": 0.2}  # kg


@dataclass
class Drive:
    """How the joints are driven: position servos, torque = kp (target - q) - kd dq.

    Attributes:
        kp: N m/rad.
        kd: N m s/rad.
        torque_limit: N m.
        armature: kg m², the motors' inertia seen at the joints.
    """

    kp: float
    kd: float
    torque_limit: float
    armature: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        for name in ("kp", "torque_limit"):
            if not getattr(self, name) > 0.0:
                yield name, f"must be above 0, got {getattr(self, name)}"


def add_quadruped(spec: mujoco.MjSpec, drive: Drive, *, looks: bool = True) -> None:
    """Add the robot, free to move, its trunk `STAND_HEIGHT` above the origin, x forward.

    Feet, knees and the trunk's lower corners are spheres that meet the ground, and nothing else does:
    they are all that touches it while the robot walks or falls.
    """
    trunk = spec.worldbody.add_body(name="trunk", pos=(0.0, 0.0, STAND_HEIGHT))
    trunk.add_freejoint(name="root")
    _set_box_inertia(trunk, _MASS["trunk"], _TRUNK)
    for x in (-1, 1):
        for y in (-1, 1):
            _add_contact(trunk, (x * _TRUNK[0], y * _TRUNK[1], -0.03), 0.03)
    for leg, (x, y) in LEGS.items():
        _add_leg(trunk, leg, x, y, drive)
    for name in JOINTS:
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=drive.kp, kv=drive.kd)
        actuator.forcelimited = True
        actuator.forcerange = (-drive.torque_limit, drive.torque_limit)
        actuator.ctrllimited = True
        actuator.ctrlrange = _RANGE[name.rsplit("_", 1)[1]]
    if looks:
        _add_looks(spec)


def _add_leg(trunk: mujoco.MjsBody, leg: str, x: int, y: int, drive: Drive) -> None:
    hip = trunk.add_body(name=f"{leg}_hip", pos=(x * 0.18, y * 0.05, 0.0))
    _set_box_inertia(hip, _MASS["hip"], (0.04, 0.03, 0.03))
    thigh = hip.add_body(name=f"{leg}_thigh", pos=(0.0, y * 0.08, 0.0))
    _set_box_inertia(thigh, _MASS["thigh"], (0.02, 0.015, _LINK / 2), (0.0, 0.0, -0.4 * _LINK))
    shank = thigh.add_body(name=f"{leg}_shank", pos=(0.0, 0.0, -_LINK))
    _set_box_inertia(shank, _MASS["shank"], (0.01, 0.01, _LINK / 2), (0.0, 0.0, -0.5 * _LINK))
    for body, part, axis in (
        (hip, "hip", (1, 0, 0)),
        (thigh, "thigh", (0, 1, 0)),
        (shank, "knee", (0, 1, 0)),
    ):
        body.add_joint(
            name=f"{leg}_{part}", axis=axis, range=_RANGE[part], limited=True, armature=drive.armature
        )
    _add_contact(shank, (0.0, 0.0, 0.0), 0.025)
    _add_contact(shank, (0.0, 0.0, -_LINK), _FOOT)


def _set_box_inertia(
    body: mujoco.MjsBody,
    mass: float,
    half: tuple[float, float, float],
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    x, y, z = (4.0 * size**2 for size in half)
    body.mass, body.ipos, body.explicitinertial = mass, center, True
    body.inertia = (mass * (y + z) / 12, mass * (x + z) / 12, mass * (x + y) / 12)


def _add_contact(body: mujoco.MjsBody, pos: tuple[float, float, float], radius: float) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=(radius, 0, 0),
        pos=pos,
        contype=0,
        conaffinity=TABLE,
        condim=3,
        group=3,
    )


def _add_looks(spec: mujoco.MjSpec) -> None:
    box, capsule, sphere = (
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_CAPSULE,
        mujoco.mjtGeom.mjGEOM_SPHERE,
    )
    seen = {"contype": 0, "conaffinity": 0, "group": 2}
    shell, dark = (0.88, 0.66, 0.16, 1), (0.16, 0.17, 0.19, 1)
    trunk = spec.body("trunk")
    trunk.add_geom(type=box, size=_TRUNK, rgba=shell, **seen)
    trunk.add_geom(type=box, size=(0.03, 0.05, 0.035), pos=(0.21, 0.0, 0.02), rgba=dark, **seen)
    for leg in LEGS:
        hip, thigh, shank = (spec.body(f"{leg}_{part}") for part in ("hip", "thigh", "shank"))
        hip.add_geom(type=capsule, fromto=(-0.03, 0, 0, 0.03, 0, 0), size=(0.04, 0, 0), rgba=dark, **seen)
        thigh.add_geom(type=capsule, fromto=(0, 0, 0, 0, 0, -_LINK), size=(0.028, 0, 0), rgba=shell, **seen)
        shank.add_geom(type=capsule, fromto=(0, 0, 0, 0, 0, -_LINK), size=(0.014, 0, 0), rgba=dark, **seen)
        shank.add_geom(type=sphere, size=(_FOOT, 0, 0), pos=(0, 0, -_LINK), rgba=dark, **seen)
