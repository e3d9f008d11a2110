"""The model against the numbers it was built from, by ways that do not share its code."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from rl_platform.physics import scene
from rl_platform.robots import panda
from tests.robots import dh

RANGES = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
]
MASSES = [0.629769, 4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522, 0.73, 0.015, 0.015]


def build(drive: panda.Drive | None = None, *, gravity_compensation: bool = True) -> mujoco.MjModel:
    spec = scene.new_scene(0.005)
    scene.add_table_top(spec)
    panda.add_panda(spec, drive, gravity_compensation=gravity_compensation)
    return spec.compile()


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build()


def random_joints(count: int) -> np.ndarray:
    low, high = np.array(RANGES).T
    return np.random.default_rng(0).uniform(low, high, (count, 7))


def test_kinematics_equal_the_dh_table(model: mujoco.MjModel) -> None:
    joints = random_joints(100)
    expected = dh.frames(joints)
    data = mujoco.MjData(model)
    bodies = [model.body(name).id for name in [*(f"link{i}" for i in range(1, 8)), "hand"]]
    tool = model.site(panda.TOOL_SITE).id
    for q, pose in zip(joints, expected, strict=True):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        positions = np.vstack([data.xpos[bodies], data.site_xpos[tool]])
        rotations = np.vstack([data.xmat[bodies], data.site_xmat[tool]]).reshape(-1, 3, 3)
        np.testing.assert_allclose(positions, pose[:, :3, 3], atol=1e-9)
        np.testing.assert_allclose(rotations, pose[:, :3, :3], atol=1e-9)


def test_jacobian_equals_the_dh_table(model: mujoco.MjModel) -> None:
    joints = random_joints(20)
    expected = dh.jacobian(dh.frames(joints))
    data = mujoco.MjData(model)
    for q, jacobian in zip(joints, expected, strict=True):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        got = np.zeros((6, model.nv))
        mujoco.mj_jacSite(model, data, got[:3], got[3:], model.site(panda.TOOL_SITE).id)
        np.testing.assert_allclose(got[:, :7], jacobian, atol=1e-9)


def test_fingers_move_along_the_hands_y_from_the_tools_axis(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.READY_POSE
    data.qpos[7:9] = 0.03, 0.01
    mujoco.mj_kinematics(model, data)
    hand = data.body("hand")
    for name, y in (("left_finger", 0.03), ("right_finger", -0.01)):
        local = hand.xmat.reshape(3, 3).T @ (data.body(name).xpos - hand.xpos)
        np.testing.assert_allclose(local, [0.0, y, 0.0584], atol=1e-9)


def test_masses(model: mujoco.MjModel) -> None:
    names = [*(f"link{i}" for i in range(8)), "hand", "left_finger", "right_finger"]
    masses = [model.body(name).mass[0] for name in names]
    np.testing.assert_allclose(masses, MASSES)
    assert model.body("link0").subtreemass[0] == pytest.approx(17.4519, abs=1e-4)


def test_inertias_are_the_table_in_the_principal_frame(model: mujoco.MjModel) -> None:
    # link 7, as full matrix about the centre of mass in the link's frame
    expected = np.array(
        [[0.012516, -0.000428, -0.001196], [-0.000428, 0.010027, -0.000741], [-0.001196, -0.000741, 0.004815]]
    )
    body = model.body("link7")
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, body.iquat)
    rotation = flat.reshape(3, 3)
    np.testing.assert_allclose(rotation @ np.diag(body.inertia) @ rotation.T, expected, atol=1e-9)
    np.testing.assert_allclose(body.ipos, [0.010517, -0.004252, 0.061597])


def test_limits(model: mujoco.MjModel) -> None:
    np.testing.assert_allclose(model.jnt_range[:7], RANGES)
    np.testing.assert_allclose(model.jnt_range[7:9], [(0.0, 0.04)] * 2)
    assert model.jnt_limited[:9].all()
    np.testing.assert_allclose(model.actuator_ctrlrange[:7], RANGES)
    torque = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
    np.testing.assert_allclose(model.actuator_forcerange[:7], np.stack([-torque, torque], axis=1))
    assert model.actuator_forcelimited.all() and model.actuator_ctrllimited.all()


def test_actuators_never_exceed_the_torque_limits(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.READY_POSE
    data.ctrl[:7] = np.array(RANGES)[:, 1]
    peak = np.zeros(7)
    for _ in range(200):
        mujoco.mj_step(model, data)
        peak = np.maximum(peak, np.abs(data.actuator_force[:7]))
    assert peak[1] == pytest.approx(87.0) and (peak[:4] <= 87.0).all() and (peak[4:] <= 12.0).all()


@pytest.mark.parametrize("compensated", [True, False])
def test_gravity_compensation_carries_the_arm(compensated: bool) -> None:
    model = build(gravity_compensation=compensated)
    data = mujoco.MjData(model)
    data.qpos[:7] = [0.3, -0.569, 0.2, -2.0, 0.4, 2.5, 0.741]
    mujoco.mj_forward(model, data)
    torque = data.qfrc_bias - data.qfrc_passive
    assert np.abs(torque[:9]).max() < 1e-9 if compensated else abs(torque[1]) > 5.0


def test_servo_reaches_its_target_without_overshoot(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    start = np.array([0.0, 0.3, 0.0, -1.5708, 0.0, 2.0, -0.7853])
    data.qpos[:7] = start
    data.ctrl[:7] = start + 0.1
    highest = start.copy()
    for _ in range(400):
        mujoco.mj_step(model, data)
        highest = np.maximum(highest, data.qpos[:7])
    np.testing.assert_allclose(data.qpos[:7], start + 0.1, atol=2e-3)
    assert (highest - start < 0.112).all()


def test_fingers_close_at_the_real_speed(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.READY_POSE
    data.ctrl[:7] = panda.READY_POSE
    data.qpos[7:9] = panda.FINGER_OPEN
    fastest = 0.0
    for _ in range(100):
        mujoco.mj_step(model, data)
        fastest = max(fastest, -data.qvel[7:9].min())
    assert fastest == pytest.approx(panda.FINGER_SPEED, rel=0.1)
    np.testing.assert_allclose(data.qpos[7:9], 0.0, atol=1e-3)


def test_full_torque_drives_no_joint_faster_than_its_limit() -> None:
    limits = np.array([2.175] * 4 + [2.61] * 3)
    model = build(panda.Drive(arm_kd=[4.0] * 7, arm_max_speed=limits.tolist()))
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    for joint in range(7):
        data = mujoco.MjData(model)
        data.qpos[:] = data.ctrl[:] = model.jnt_range.mean(1)
        data.qpos[joint], data.ctrl[joint] = model.jnt_range[joint]
        speeds = []
        for _ in range(200):
            mujoco.mj_step(model, data)
            speeds.append(abs(data.qvel[joint]))
        assert 0.75 * limits[joint] < max(speeds) < 1.1 * limits[joint]  # the others push it a little


def test_robot_does_not_collide_with_itself_and_rests_on_the_table(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    for q in random_joints(50):
        data.qpos[:7] = q
        mujoco.mj_forward(model, data)
        assert all(model.geom("table").id in contact.geom for contact in data.contact)
    data.qpos[:7] = data.ctrl[:7] = [0.0, 0.3, 0.0, -1.5708, 0.0, 2.0, -0.7853]
    data.ctrl[1] = 1.2  # push the hand down
    for _ in range(600):
        mujoco.mj_step(model, data)
    assert data.ncon > 0
    assert min(contact.dist for contact in data.contact) > -0.01
