"""What each action mode makes of an action, against hand-computed targets and a moving arm."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.arm import damped_least_squares, orientation_error, rotation_matrix
from rl_platform.envs.env import Env
from rl_platform.tasks import lift


def make(num_envs: int = 4, **arm: object) -> Env:
    config = typed("env", compose(["env=lift", "env.events.reset_robot.joint_noise=0.0"]).env)
    config.actions.arm = replace(config.actions.arm, **arm)
    return make_env(config, lift.TASK, num_envs=num_envs, seed=0, device="cpu", num_threads=1, training=False)


def act(env: Env, *columns: float) -> torch.Tensor:
    return torch.tensor([columns]).repeat(env.num_envs, 1)


def test_joint_position_targets_are_default_plus_scaled_action() -> None:
    env = make(mode="joint_position", scale=0.5)
    env.step(act(env, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.4, 1.0))
    start = torch.tensor(env.config.robot.start_pose[:7], dtype=torch.float64)
    expected = start + 0.5 * torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    torch.testing.assert_close(env.physics.data("ctrl")[0, :7], expected, atol=1e-6, rtol=0)


def test_joint_position_bounds_span_the_joints_range() -> None:
    env = make(mode="joint_position", scale=0.5)
    for bound, column in ((env.action_low, 0), (env.action_high, 1)):
        env.step(bound.repeat(env.num_envs, 1))
        limits = torch.as_tensor(env.physics.model.actuator_ctrlrange[:7, column])
        torch.testing.assert_close(env.physics.data("ctrl")[0, :7], limits, atol=1e-6, rtol=0)


def test_relative_joint_targets_accumulate_up_to_the_lead() -> None:
    env = make(mode="relative_joint_position", scale=0.1, max_lead=0.25)
    start = env.physics.data("qpos")[0, 0].item()
    env.step(act(env, 1.0, 0, 0, 0, 0, 0, 0, 1.0))
    assert env.physics.data("ctrl")[0, 0].item() == pytest.approx(start + 0.1)
    for _ in range(5):
        before = env.physics.data("qpos")[0, 0].item()
        env.step(act(env, 1.0, 0, 0, 0, 0, 0, 0, 1.0))
        lead = env.physics.data("ctrl")[0, 0].item() - before
        assert lead <= 0.25 + 1e-9


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_relative_tool_moves_along_the_axis_and_keeps_its_orientation(axis: int, sign: float) -> None:
    env = make()
    start_pos, start_mat = env._state.tool_pos, env._state.tool_mat
    move = [0.0, 0.0, 0.0, 1.0]
    move[axis] = 0.5 * sign
    for _ in range(6):
        env.step(act(env, *move))
    moved = env._state.tool_pos[0] - start_pos[0]
    assert moved[axis] * sign > 0.25 * 6 * 0.02  # a third: the servos lag
    others = [i for i in range(3) if i != axis]
    assert moved[others].abs().max() < 0.35 * moved[axis].abs()  # the joints' servos lag unequally
    assert orientation_error(start_mat, env._state.tool_mat).norm(dim=1).max() < math.radians(4)


def test_absolute_tool_position_is_reached() -> None:
    env = make(mode="absolute_ee_pose", workspace=[[0.3, 0.7], [-0.3, 0.3], [0.1, 0.5]])
    for _ in range(40):
        env.step(act(env, 0.5, -0.5, 0.0, 1.0))
    expected = torch.tensor([0.6, -0.15, 0.3])
    torch.testing.assert_close(env._state.tool_pos[0], expected, atol=0.005, rtol=0)


def test_yaw_turns_the_hand_about_the_vertical() -> None:
    env = make(rotation="yaw", rotation_scale=0.1)
    start = env._state.tool_mat
    for _ in range(8):
        env.step(act(env, 0, 0, 0, 1.0, 1.0))
    for _ in range(8):
        env.step(act(env, 0, 0, 0, 0.0, 1.0))
    turned = orientation_error(env._state.tool_mat, start)[0]
    assert turned[2].item() == pytest.approx(math.sin(0.8), abs=0.05)
    assert turned[:2].abs().max() < 0.05


@pytest.mark.parametrize(("mode", "action", "target"), [
    ("binary", -0.1, -0.04), ("binary", 0.1, 0.04), ("continuous", 0.0, 0.0), ("continuous", -5.0, -0.04),
    ("continuous", 0.5, 0.02),
])  # fmt: skip
def test_gripper_targets(mode: str, action: float, target: float) -> None:
    config = typed("env", compose(["env=lift"]).env)
    config.actions.gripper = replace(config.actions.gripper, mode=mode)
    env = make_env(config, lift.TASK, num_envs=2, seed=0, device="cpu", num_threads=1)
    env.step(act(env, 0, 0, 0, action))
    assert env.physics.data("ctrl")[0, 7:].tolist() == pytest.approx([target, target])


def test_damped_least_squares_solves_the_regularised_problem() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(16, 6, 7, generator=generator, dtype=torch.float64)
    error = torch.randn(16, 6, generator=generator, dtype=torch.float64)
    found = damped_least_squares(jacobian.permute(1, 2, 0), error, 0.3)
    # the minimum of ‖J x - e‖² + λ² ‖x‖²: its gradient vanishes
    residual = torch.einsum("nij,nj->ni", jacobian, found) - error
    gradient = torch.einsum("nij,ni->nj", jacobian, residual) + 0.09 * found
    assert gradient.abs().max() < 1e-12


def test_rotation_matrix_is_the_matrix_exponential() -> None:
    rotation = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rotation[0] = 0.0
    x, y, z = rotation.T
    zero = torch.zeros(10, dtype=torch.float64)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    torch.testing.assert_close(rotation_matrix(rotation), torch.linalg.matrix_exp(skew), atol=1e-12, rtol=0)


def test_orientation_error_is_sine_times_axis() -> None:
    axis = torch.tensor([[0.0, 0.6, 0.8]], dtype=torch.float64)
    start = rotation_matrix(torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64))
    desired = rotation_matrix(0.5 * axis) @ start
    torch.testing.assert_close(orientation_error(desired, start), math.sin(0.5) * axis)
