from __future__ import annotations

import logging
from pathlib import Path

import mujoco
import numpy as np
import pytest

from rl_platform.physics import scene
from rl_platform.robots import menagerie, panda

TETRAHEDRON = "v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
MODEL = """
<mujoco>
  <compiler meshdir="assets" angle="radian"/>
  <default>
    <default class="visual"><geom type="mesh" contype="0" conaffinity="0" group="2"/></default>
  </default>
  <asset>
    <material name="white" rgba="1 1 1 1"/>
    <material name="black" rgba="0.2 0.2 0.2 1"/>
    <mesh name="link0_c" file="link0_c.obj"/>
    <mesh file="link0_0.obj"/>
    <mesh file="finger_0.obj" scale="0.1 0.1 0.1"/>
  </asset>
  <worldbody>
    <body name="link0">
      <geom class="visual" mesh="link0_0" material="white"/>
      <geom type="mesh" mesh="link0_c"/>
      <body name="left_finger"><geom class="visual" mesh="finger_0" material="black" pos="0 0 0.01"/></body>
      <body name="right_finger"><geom class="visual" mesh="finger_0" material="black" pos="0 0 0.01"/></body>
      <body name="not_ours"><geom class="visual" mesh="finger_0"/></body>
    </body>
  </worldbody>
</mujoco>
"""


def build(looks: str) -> mujoco.MjModel:
    spec = scene.new_scene(0.01)
    scene.add_table_top(spec, looks=looks != "none")
    panda.add_panda(spec, looks=looks)
    scene.add_cube(spec)
    scene.add_goal(spec)
    return spec.compile()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up Menagerie with a Panda of two tetrahedra."""
    pytest.importorskip("mujoco_menagerie")
    assets = tmp_path / "franka_emika_panda" / "assets"
    assets.mkdir(parents=True)
    for name in ("link0_0", "link0_c", "finger_0"):
        (assets / f"{name}.obj").write_text(TETRAHEDRON)
    (assets.parent / "panda.xml").write_text(MODEL)
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    return tmp_path


def mesh_bodies(model: mujoco.MjModel) -> list[str]:
    is_mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    return sorted(model.body(body).name for body in model.geom_bodyid[is_mesh])


def test_looks_change_nothing_but_the_picture() -> None:
    plain, dressed = build("none"), build("primitives")
    assert plain.ngeom < dressed.ngeom
    drawn = dressed.geom_group == 2
    assert not dressed.geom_contype[drawn].any() and not dressed.geom_conaffinity[drawn].any()
    np.testing.assert_array_equal(plain.body_mass, dressed.body_mass)
    np.testing.assert_array_equal(plain.body_inertia, dressed.body_inertia)
    states = []
    for model in (plain, dressed):
        data = mujoco.MjData(model)
        data.qpos[:7] = panda.READY_POSE
        data.ctrl[:7] = [0.1, 0.6, 0.0, -2.2, 0.0, 2.8, 0.8]
        mujoco.mj_step(model, data, nstep=300)
        states.append(np.concatenate([data.qpos, data.qvel]))
    np.testing.assert_array_equal(states[0], states[1])


def test_a_simulated_scene_carries_no_scenery() -> None:
    model = build("none")
    assert model.ncam == model.nlight == model.nmat == 0
    assert (model.geom_contype | model.geom_conaffinity).all()


def test_real_meshes_replace_the_primitives(root: Path) -> None:
    model = build("menagerie")
    assert mesh_bodies(model) == ["left_finger", "link0", "right_finger"]
    assert not [i for i in range(model.nmat) if model.mat(i).name.startswith("panda_")]
    is_mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    [finger] = np.flatnonzero(is_mesh & (model.geom_bodyid == model.body("left_finger").id))
    assert model.mat(model.geom_matid[finger]).name == "menagerie/black"
    first = model.mesh_vertadr[model.geom_dataid[finger]]
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[finger])
    corners = model.mesh_vert[first : first + 4] @ turn.reshape(3, 3).T + model.geom_pos[finger]
    np.testing.assert_allclose(corners.min(axis=0), [0.0, 0.0, 0.01], atol=1e-6)
    np.testing.assert_allclose(corners.max(axis=0), [0.01, 0.01, 0.02], atol=1e-6)
    np.testing.assert_array_equal(model.body_mass, build("none").body_mass)


def test_without_the_meshes_there_are_primitives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MENAGERIE_BASE_URL", "http://127.0.0.1:9")  # a download would fail, and take long
    assert menagerie.find("franka_emika_panda") is None
    assert build("menagerie").ngeom == build("primitives").ngeom


@pytest.mark.parametrize("damage", ["no model", "no mesh", "broken mesh"])
def test_damaged_files_mean_primitives(root: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    robot = root / "franka_emika_panda"
    if damage == "no model":
        (robot / "panda.xml").unlink()
    elif damage == "no mesh":
        (robot / "assets" / "finger_0.obj").unlink()
    else:
        (robot / "assets" / "finger_0.obj").write_text("v 0 0")
    with caplog.at_level(logging.WARNING):
        model = build("menagerie")
    assert model.ngeom == build("primitives").ngeom and not mesh_bodies(model)
    assert "franka_emika_panda's meshes cannot be used" in caplog.text


def test_unknown_looks_are_refused() -> None:
    with pytest.raises(ValueError, match="none, primitives, menagerie"):
        build("shiny")


def test_the_camera_sees_robot_cube_and_goal() -> None:
    model = build("primitives")
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.READY_POSE
    renderer = None
    try:
        renderer = mujoco.Renderer(model, 120, 160)
    except Exception as error:  # whatever the OpenGL of this machine raises
        pytest.skip(f"no OpenGL here: {error}")
    renderer.enable_segmentation_rendering()
    for x, y, z in [(0.4, -0.25, 0.25), (0.6, 0.25, 0.5)]:
        data.qpos[9:12] = x, y, 0.02
        data.mocap_pos[0] = x, y, z
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, "front")
        seen = renderer.render().reshape(-1, 2)
        geoms = seen[seen[:, 1] == mujoco.mjtObj.mjOBJ_GEOM, 0]
        sites = seen[seen[:, 1] == mujoco.mjtObj.mjOBJ_SITE, 0]
        bodies = {model.body(model.geom_bodyid[i]).name for i in geoms}
        assert {"link0", "link4", "hand", "cube"} <= bodies
        assert model.site("goal").id in sites
    renderer.close()
