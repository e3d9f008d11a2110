"""Assembling a scene with `mujoco.MjSpec`, and finding things in the compiled model by name.

Collisions are a matter of two bits: the table, and objects. The robot and the objects say in their
`conaffinity` which of them they meet, so that pairs nobody cares for cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import torch

TABLE = 1
OBJECTS = 2


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


def add_table_top(spec: mujoco.MjSpec) -> None:
    """Add a table whose top is z = 0 (a plane, the cheapest thing to rest on), light and a camera."""
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0, 0, 0.1),
        contype=TABLE,
        conaffinity=0,
        group=3,
    )
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(0.6, 0.7, 0.02),
        pos=(0.35, 0.0, -0.02),
        contype=0,
        conaffinity=0,
        group=2,
        rgba=(0.7, 0.6, 0.5, 1),
    )
    world.add_light(pos=(0.5, -0.5, 2.0), dir=(0, 0.3, -1), type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    world.add_camera(name="front", pos=(1.6, -0.9, 0.9), xyaxes=(0.5, 0.87, 0, -0.4, 0.25, 0.87))


def add_cube(spec: mujoco.MjSpec, name: str = "cube", edge: float = 0.04, mass: float = 0.05) -> None:
    """Add a free cube, its centre at the origin of its body (edge in m, mass in kg).

    Its contact law counts in every contact, so that friction can be randomised here. Contacts are as stiff
    as the time step can follow: MuJoCo's contacts are solved for accelerations without J̇ q̇, and the error
    that a swinging arm makes of it dies away with the contact's time constant. At twice the time constant
    one held cube in twenty is lost when the arm moves as fast as it can.
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
        friction=(1.0, 0.005, 0.0001),
        condim=3,
        priority=1,
        solref=(0.5 * spec.option.timestep, 1.0),
        solimp=(0.9, 0.95, 0.001, 0.5, 2.0),
        margin=2e-4,  # m: a cube put down exactly on the table is already in contact
        rgba=(0.9, 0.3, 0.1, 1),
    )


def add_goal(spec: mujoco.MjSpec, name: str = "goal", radius: float = 0.02) -> None:
    """Add a mocap body shown as a sphere (radius in m) that touches nothing."""
    body = spec.worldbody.add_body(name=name, mocap=True, pos=(0.5, 0.0, 0.4))
    body.add_site(name=name, size=(radius, radius, radius), rgba=(0.2, 0.8, 0.3, 0.6), group=2)


def joint_ids(model: mujoco.MjModel, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the addresses of one-dimensional joints in `qpos` and in `qvel`; both (len(names),) int64."""
    joints = [model.joint(name).id for name in names]
    return torch.tensor(model.jnt_qposadr[joints]).long(), torch.tensor(model.jnt_dofadr[joints]).long()


def actuator_ids(model: mujoco.MjModel, names: Sequence[str]) -> torch.Tensor:
    """Return indices into `ctrl`; (len(names),) int64."""
    return torch.tensor([model.actuator(name).id for name in names])
