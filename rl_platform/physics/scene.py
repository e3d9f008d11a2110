"""Assembling a scene with `mujoco.MjSpec`, and finding things in the compiled model by name.

Collisions are a matter of two bits: the table, and objects. The robot and the objects say in their
`conaffinity` which of them they meet, so that pairs nobody cares for cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
import torch

TABLE = 1
OBJECTS = 2
TABLE_CENTRE, TABLE_HALF = (0.3, 0.0), (0.55, 0.6)  # m, x and y: the table that is seen


def new_scene(timestep: float, *, integrator: str = "discrete", iterations: int = 10) -> mujoco.MjSpec:
    """Return an empty scene with the options that manipulation wants: stable at large steps, and cheap.

    Args:
        timestep: s.
        integrator: an `mjtIntegrator` in lower case. "discrete" solves contacts together with the joints'
            implicit damping; "implicitfast" solves them first, for joints that are lighter than they then
            turn out to be, so that stiffly damped fingers rattle on what they hold and drop it.
        iterations: Newton iterations at most (1 to 3 are usual).
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    option = spec.option
    option.timestep = timestep
    option.integrator = getattr(mujoco.mjtIntegrator, f"mjINT_{integrator.upper()}")
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.iterations = iterations
    option.ls_iterations = 10
    if integrator == "discrete":  # it is stable at any contact stiffness: leave the stiffness as it is given
        option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_REFSAFE)
    return spec


def add_table_top(spec: mujoco.MjSpec, *, looks: bool = True) -> None:
    """Add a table whose top is z = 0, as an endless plane: the cheapest thing to rest on.

    The pictures' table ends at `TABLE_CENTRE` ± `TABLE_HALF`; a task says what becomes of things beyond.

    Args:
        spec: the scene.
        looks: with what only pictures want: the table's body, floor, sky, lights, the camera "front".
    """
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0, 0, 0.1),
        contype=TABLE,
        conaffinity=0,
        group=3,
    )
    if looks:
        add_surroundings(spec, floor=-0.75)
        _add_table(spec)
        add_camera(spec, "front", position=(1.62, -1.0, 0.78), target=(0.29, 0.02, 0.31), fovy=36.0)


def add_cube(
    spec: mujoco.MjSpec,
    name: str = "cube",
    *,
    edge: float = 0.04,
    mass: float = 0.05,
    friction: float = 1.0,
    stiff: bool = False,
) -> None:
    """Add a free cube, its centre at the origin of its body (edge in m, mass in kg).

    Its contact law counts in every contact, so that friction can be randomised here.

    Soft contacts have MuJoCo's usual time constant; a held cube creeps with it, 8 mm in a second of swift
    carrying, although the impedance is closer to 1 than usual. `stiff` ones follow as fast as the time step
    can, which only the discrete integrator allows, and creep half as far. But a hand at 2.5 m/s is 2.5 cm
    deep in the cube by the end of a 10 ms step, and stiff contacts then throw it out at up to three times
    that speed.
    """
    body = spec.worldbody.add_body(name=name, pos=(0.5, 0.0, edge / 2))
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(edge / 2, edge / 2, edge / 2),
        mass=mass,
        contype=OBJECTS,
        conaffinity=TABLE | OBJECTS,
        friction=(friction, 0.005, 0.0001),
        condim=3,
        priority=1,
        solref=(0.5 * spec.option.timestep if stiff else 0.02, 1.0),
        solimp=(0.9, 0.95, 0.001, 0.5, 2.0) if stiff else (0.95, 0.99, 0.001, 0.5, 2.0),
        margin=2e-4,  # m: a cube put down exactly on the table is already in contact
        rgba=(0.9, 0.3, 0.1, 1),
    )


def add_goal(spec: mujoco.MjSpec, name: str = "goal", radius: float = 0.02, *, flat: bool = False) -> None:
    """Add a mocap body shown as a sphere (radius in m), or as a disc on the table, that touches nothing."""
    body = spec.worldbody.add_body(name=name, mocap=True, pos=(0.5, 0.0, 0.001 if flat else 0.4))
    kind = mujoco.mjtGeom.mjGEOM_CYLINDER if flat else mujoco.mjtGeom.mjGEOM_SPHERE
    size = (radius, 0.001, 0.0) if flat else (radius, radius, radius)
    body.add_site(name=name, type=kind, size=size, rgba=(0.2, 0.8, 0.3, 0.6), group=2)


def add_ground(spec: mujoco.MjSpec, *, friction: float = 1.0) -> None:
    """Add the ground, a plane at z = 0 that bodies with `conaffinity=TABLE` meet."""
    spec.worldbody.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0, 0, 0.1),
        contype=TABLE,
        conaffinity=0,
        condim=3,
        friction=(friction, 0.005, 0.0001),
        group=3,
    )


def add_surroundings(spec: mujoco.MjSpec, *, floor: float, follow: str | None = None) -> None:
    """Add what only pictures want: sky, a floor at the height `floor` (m), and lights.

    The lights go along with the body `follow`, so that a robot that walks away keeps its shadow.
    """
    flat, gradient = mujoco.mjtBuiltin.mjBUILTIN_FLAT, mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    size = {"width": 256, "height": 256}
    skybox, image = mujoco.mjtTexture.mjTEXTURE_SKYBOX, mujoco.mjtTexture.mjTEXTURE_2D
    light, dark, line = (0.80, 0.84, 0.88), (0.34, 0.40, 0.47), (0.44, 0.48, 0.53)
    spec.add_texture(name="sky", type=skybox, builtin=gradient, rgb1=light, rgb2=dark, **size)
    edge = mujoco.mjtMark.mjMARK_EDGE
    spec.add_texture(
        name="floor", type=image, builtin=flat, rgb1=(0.36, 0.40, 0.45), mark=edge, markrgb=line, **size
    )
    material = spec.add_material(name="floor", texrepeat=(2, 2), texuniform=True, reflectance=0.08)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    _add_scenery(spec, "floor", mujoco.mjtGeom.mjGEOM_PLANE, (0, 0, 0.1), (0, 0, floor))
    _add_lights(spec, spec.body(follow) if follow else spec.worldbody)


def _add_table(spec: mujoco.MjSpec) -> None:
    spec.add_material(name="table", rgba=(0.62, 0.50, 0.38, 1), specular=0.2, shininess=0.3, reflectance=0.05)
    spec.add_material(name="mat", rgba=(0.23, 0.27, 0.31, 1), specular=0.1, shininess=0.1)
    spec.add_material(name="steel", rgba=(0.30, 0.32, 0.35, 1), specular=0.6, shininess=0.6)
    box = mujoco.mjtGeom.mjGEOM_BOX
    _add_scenery(spec, "table", box, (*TABLE_HALF, 0.02), (*TABLE_CENTRE, -0.0225))
    _add_scenery(spec, "mat", box, (0.19, 0.34, 0.001), (0.5, 0, -0.0015))
    for x in (-0.19, 0.79):
        for y in (-0.54, 0.54):
            _add_scenery(spec, "steel", box, (0.025, 0.025, 0.355), (x, y, -0.395))


def _add_lights(spec: mujoco.MjSpec, body: mujoco.MjsBody) -> None:
    spec.visual.rgba.haze = (0.56, 0.61, 0.67, 1)  # the sky's colour at the horizon
    spec.visual.quality.shadowsize = 2048
    spec.visual.map.shadowclip = 1.5
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = (0.32,) * 3, (0.16,) * 3, (0.05,) * 3
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    follows = mujoco.mjtCamLight.mjCAMLIGHT_TRACK
    main = body.add_light(
        pos=(0.4, -0.8, 2.5), dir=(0.1, 0.42, -1), type=directional, diffuse=(0.58,) * 3, specular=(0.35,) * 3
    )
    fill = body.add_light(
        pos=(1.5, 1.5, 1.5), dir=(-1, -0.9, -0.8), type=directional, diffuse=(0.16,) * 3, castshadow=False
    )
    if body.name != "world":
        main.mode = fill.mode = follows


def _add_scenery(
    spec: mujoco.MjSpec, material: str, kind: mujoco.mjtGeom, size: Sequence[float], pos: Sequence[float]
) -> None:
    spec.worldbody.add_geom(
        material=material, type=kind, size=size, pos=pos, contype=0, conaffinity=0, group=2
    )


def add_camera(
    spec: mujoco.MjSpec,
    name: str,
    position: Sequence[float],
    target: Sequence[float],
    fovy: float,
    *,
    follow: str | None = None,
) -> None:
    """Add a camera at `position` that looks at `target` (m), with a vertical field of view in degrees.

    With a body to `follow`, both are seen from its origin, and the camera goes along without turning.
    """
    forward = np.asarray(target, dtype=float) - position
    right = np.cross(forward, (0.0, 0.0, 1.0))
    up = np.cross(right, forward)
    body = spec.body(follow) if follow else spec.worldbody
    camera = body.add_camera(name=name, pos=position, xyaxes=(*right, *up), fovy=fovy)
    if follow:
        camera.mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACK


def joint_ids(model: mujoco.MjModel, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the addresses of one-dimensional joints in `qpos` and in `qvel`; both (len(names),) int64."""
    joints = [model.joint(name).id for name in names]
    return torch.tensor(model.jnt_qposadr[joints]).long(), torch.tensor(model.jnt_dofadr[joints]).long()


def actuator_ids(model: mujoco.MjModel, names: Sequence[str]) -> torch.Tensor:
    """Return indices into `ctrl`; (len(names),) int64."""
    return torch.tensor([model.actuator(name).id for name in names])
