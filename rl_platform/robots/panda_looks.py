"""What the Panda looks like: geometry for pictures only, which touches nothing and weighs nothing.

It is added to a copy of the scene that is only drawn, because every geometry costs time in each step.
"""

from __future__ import annotations

from math import cos, pi, sin

import mujoco

from rl_platform.robots import menagerie

STYLES = ("none", "primitives", "menagerie")

_MATERIALS = {  # red, green, blue; specular, shininess, reflectance
    "panda_white": ((0.93, 0.94, 0.95), 0.5, 0.6, 0.03),
    "panda_grey": ((0.42, 0.44, 0.47), 0.4, 0.5, 0.02),
    "panda_dark": ((0.13, 0.14, 0.16), 0.4, 0.4, 0.02),
    "panda_rubber": ((0.07, 0.07, 0.08), 0.1, 0.1, 0.0),
    "panda_light": ((0.25, 0.65, 0.95), 0.1, 0.1, 0.0),
}

# Capsules: body, material, radius, the two ends (m, in the body's frame).
_CAPSULES = (
    ("link0", "panda_white", 0.034, (0.0, -0.034, 0.066), (-0.10, -0.030, 0.036)),
    ("link0", "panda_white", 0.034, (0.0, 0.034, 0.066), (-0.10, 0.030, 0.036)),
    ("link1", "panda_white", 0.063, (0.0, 0.0, -0.12), (0.0, 0.0, -0.02)),
    ("link2", "panda_white", 0.060, (0.0, 0.0, 0.0), (0.0, -0.12, 0.0)),
    ("link3", "panda_white", 0.058, (0.0, 0.0, -0.105), (0.03, 0.0, -0.055)),
    ("link3", "panda_white", 0.056, (0.03, 0.0, -0.055), (0.0825, 0.0, -0.005)),
    ("link4", "panda_white", 0.056, (0.0, 0.0, 0.0), (-0.055, 0.055, 0.0)),
    ("link4", "panda_white", 0.058, (-0.055, 0.055, 0.0), (-0.0825, 0.115, 0.0)),
    ("link5", "panda_white", 0.058, (0.0, 0.0, -0.235), (0.0, 0.012, -0.17)),
    ("link5", "panda_white", 0.046, (0.0, 0.025, -0.17), (0.0, 0.062, -0.05)),
    ("link5", "panda_white", 0.040, (0.0, 0.062, -0.05), (0.0, 0.055, 0.0)),
    ("link6", "panda_white", 0.047, (0.0, 0.0, -0.015), (0.05, 0.0, -0.005)),
    ("link6", "panda_white", 0.044, (0.05, 0.0, -0.005), (0.088, 0.0, 0.0)),
    ("hand", "panda_white", 0.029, (0.0, -0.069, 0.036), (0.0, 0.069, 0.036)),
)

# Cylinders: body, material, radius, the two ends.
_CYLINDERS = (
    ("link0", "panda_white", 0.066, (0.0, 0.0, 0.0), (0.0, 0.0, 0.12)),
    ("link0", "panda_dark", 0.062, (0.0, 0.0, 0.12), (0.0, 0.0, 0.142)),
    ("link1", "panda_white", 0.065, (0.0, 0.0, -0.191), (0.0, 0.0, -0.09)),
    ("link1", "panda_white", 0.062, (0.0, -0.07, 0.0), (0.0, 0.055, 0.0)),
    ("link2", "panda_dark", 0.057, (0.0, 0.0, 0.055), (0.0, 0.0, 0.068)),
    ("link2", "panda_white", 0.061, (0.0, 0.0, -0.06), (0.0, 0.0, 0.056)),
    ("link2", "panda_white", 0.060, (0.0, -0.12, 0.0), (0.0, -0.185, 0.0)),
    ("link3", "panda_dark", 0.056, (0.0, 0.0, -0.135), (0.0, 0.0, -0.120)),
    ("link3", "panda_white", 0.058, (0.0, 0.0, -0.121), (0.0, 0.0, -0.09)),
    ("link3", "panda_white", 0.056, (0.0825, -0.055, 0.0), (0.0825, 0.055, 0.0)),
    ("link4", "panda_dark", 0.052, (0.0, 0.0, 0.05), (0.0, 0.0, 0.064)),
    ("link4", "panda_dark", 0.052, (0.0, 0.0, -0.064), (0.0, 0.0, -0.05)),
    ("link4", "panda_white", 0.058, (-0.0825, 0.10, 0.0), (-0.0825, 0.126, 0.0)),
    ("link5", "panda_dark", 0.055, (0.0, 0.0, -0.262), (0.0, 0.0, -0.245)),
    ("link5", "panda_white", 0.058, (0.0, 0.0, -0.246), (0.0, 0.0, -0.22)),
    ("link5", "panda_white", 0.050, (0.0, -0.012, 0.0), (0.0, 0.09, 0.0)),
    ("link6", "panda_dark", 0.046, (0.0, 0.0, 0.045), (0.0, 0.0, 0.058)),
    ("link6", "panda_white", 0.050, (0.0, 0.0, -0.06), (0.0, 0.0, 0.046)),
    ("link6", "panda_white", 0.044, (0.088, 0.0, -0.045), (0.088, 0.0, 0.045)),
    ("link7", "panda_dark", 0.040, (0.0, 0.0, 0.042), (0.0, 0.0, 0.058)),
    ("link7", "panda_white", 0.044, (0.0, 0.0, 0.057), (0.0, 0.0, 0.092)),
    ("link7", "panda_light", 0.0445, (0.0, 0.0, 0.084), (0.0, 0.0, 0.087)),
    ("link7", "panda_grey", 0.0315, (0.0, 0.0, 0.092), (0.0, 0.0, 0.107)),
)

# Boxes: body, material, centre, half sizes, turn about x (rad).
_BOXES = (
    ("link0", "panda_white", (-0.055, 0.0, 0.03), (0.075, 0.056, 0.03), 0.0),
    ("link0", "panda_dark", (-0.133, 0.0, 0.032), (0.004, 0.045, 0.024), 0.0),
    ("hand", "panda_white", (0.0, 0.0, 0.046), (0.029, 0.098, 0.012), 0.0),
    ("hand", "panda_dark", (0.0, 0.0, 0.0605), (0.016, 0.102, 0.0035), 0.0),
    ("finger", "panda_grey", (0.0, 0.0185, 0.011), (0.0105, 0.0075, 0.010), 0.0),
    ("finger", "panda_grey", (0.0, 0.0068, 0.0022), (0.0105, 0.0044, 0.0019), 0.0),
    ("finger", "panda_grey", (0.0, 0.0159, 0.02835), (0.00875, 0.0035, 0.0145), pi / 6),
    ("finger", "panda_rubber", (0.0, 0.00758, 0.04525), (0.00875, 0.0076, 0.00925), 0.0),
)


def add_looks(spec: mujoco.MjSpec, style: str) -> None:
    """Dress the robot of `spec`.

    Args:
        spec: a scene with the robot in it.
        style: "none"; "primitives", white shells with dark joints; or "menagerie", the real meshes where
            their files are on this machine, and primitives elsewhere.

    Raises:
        ValueError: there is no such style.
    """
    if style not in STYLES:
        raise ValueError(f"looks must be one of {', '.join(STYLES)}, got {style!r}")
    if style == "none" or (
        style == "menagerie" and menagerie.add_meshes(spec, "franka_emika_panda", "panda")
    ):
        return
    for name, (rgb, specular, shininess, reflectance) in _MATERIALS.items():
        spec.add_material(
            name=name, rgba=(*rgb, 1.0), specular=specular, shininess=shininess, reflectance=reflectance
        )
    capsule, cylinder = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
    for kind, table in ((capsule, _CAPSULES), (cylinder, _CYLINDERS)):
        for body, material, radius, begin, end in table:
            _add(spec, body, material, type=kind, size=(radius, 0, 0), fromto=(*begin, *end))
    for body, material, center, half, turn in _BOXES:
        quat = (cos(turn / 2), sin(turn / 2), 0.0, 0.0)
        _add(spec, body, material, type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=center, quat=quat)


def _add(spec: mujoco.MjSpec, body: str, material: str, **geom: object) -> None:
    names = ("left_finger", "right_finger") if body == "finger" else (body,)
    for name in names:
        spec.body(name).add_geom(material=material, contype=0, conaffinity=0, group=2, **geom)
