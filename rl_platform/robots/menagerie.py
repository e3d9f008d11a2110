"""Real meshes for pictures, from MuJoCo Menagerie where its files are on this machine.

`pip install mujoco-menagerie` and `mujoco-menagerie prefetch franka_emika_panda` put them there, or
MENAGERIE_ROOT names a checkout. Nothing is downloaded here: a training run must not wait for a network.
"""

from __future__ import annotations

import logging
from pathlib import Path

import mujoco

_PREFIX = "menagerie/"


def find(robot: str) -> Path | None:
    """Return the directory of a Menagerie model, or None if the package or the model is not here."""
    try:
        import mujoco_menagerie as menagerie
    except ImportError:
        return None
    try:
        known, cache = menagerie.get(robot), menagerie.Cache()
        # asked for what it has not got, the cache would download it
        if cache.root is None and not cache.is_cached(known):
            return None
        return Path(known.path(cache, progress=None))
    except menagerie.MenagerieError:
        return None


def add_meshes(spec: mujoco.MjSpec, robot: str, entry: str) -> bool:
    """Copy the visual meshes of a Menagerie model onto the bodies of `spec` that have the same names.

    Args:
        spec: a scene whose robot has Menagerie's bodies, with the same frames.
        robot: the model's name, "franka_emika_panda".
        entry: its file without the suffix, "panda".

    Returns:
        Whether it did; without usable files the scene is left as it was.
    """
    directory = find(robot)
    if directory is None:
        return False
    try:
        source = mujoco.MjSpec.from_file(str(directory / f"{entry}.xml"))
        source.compile()  # a missing or damaged mesh has to show before anything is copied
    except (OSError, ValueError) as error:
        logging.getLogger(__name__).warning("%s's meshes cannot be used: %s", robot, error)
        return False
    meshes = {mesh.name or Path(mesh.file).stem: mesh for mesh in source.meshes}
    shown = [(body, geom) for body in source.bodies if spec.body(body.name) for geom in body.geoms]
    for body, geom in shown:
        if geom.contype == 0 and geom.conaffinity == 0 and geom.meshname in meshes:
            _copy_mesh(spec, directory / source.meshdir, meshes[geom.meshname], geom.meshname)
            _copy_material(spec, source, geom.material)
            spec.body(body.name).add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=_PREFIX + geom.meshname,
                material=_PREFIX + geom.material if geom.material else "",
                rgba=geom.rgba,
                pos=geom.pos,
                quat=geom.quat,
                contype=0,
                conaffinity=0,
                group=2,
            )
    return True


def _copy_mesh(spec: mujoco.MjSpec, directory: Path, mesh: mujoco.MjsMesh, name: str) -> None:
    if spec.mesh(_PREFIX + name) is None:
        spec.add_mesh(
            name=_PREFIX + name,
            file=str((directory / mesh.file).resolve()),
            scale=mesh.scale,
            refpos=mesh.refpos,
            refquat=mesh.refquat,
            # only drawn: a shell may be open, and its volume does not matter
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )


def _copy_material(spec: mujoco.MjSpec, source: mujoco.MjSpec, name: str) -> None:
    if not name or spec.material(_PREFIX + name) is not None:
        return
    material = source.material(name)
    spec.add_material(
        name=_PREFIX + name,
        rgba=material.rgba,
        specular=material.specular,
        shininess=material.shininess,
        reflectance=material.reflectance,
    )
