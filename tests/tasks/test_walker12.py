from __future__ import annotations

import math

import pytest
import torch

from tests.envs.test_every_env import make


def test_the_tutorials_sizes() -> None:
    env = make("walker12", 2)
    assert env.observation_dims == {"policy": 33}
    assert (env.action_dim, env.max_episode_steps) == (12, 1000)


def test_it_stands_still_on_its_default_targets() -> None:
    env = make("walker12", 4, 3, "env.events.reset_robot={joint_noise:0.0,velocity_noise:0.0}")
    for _ in range(100):
        _, _, terminated, _, _ = env.step(torch.zeros(4, 12))
        assert not terminated.any()
    state = env._state
    assert state.height.min() > 0.24
    assert state.lin_vel.abs().max() < 0.02
    torch.testing.assert_close(state.gravity, torch.tensor([[0.0, 0.0, -1.0]]).expand(4, 3), atol=0.1, rtol=0)


def test_velocities_are_in_the_trunks_axes() -> None:
    env = make("walker12", 1)
    qpos, qvel = env.physics.data("qpos"), env.physics.data("qvel")
    qpos[0, 2] = 2.0  # in the air
    qpos[0, 3:7] = torch.tensor([math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4)])  # faces y
    qvel[0, :6] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    env.step(torch.zeros(1, 12))
    assert env._state.lin_vel[0, :2].tolist() == pytest.approx([1.0, 0.0], abs=0.1)


def test_speed_beyond_the_maximum_does_not_pay_and_torque_costs() -> None:
    env = make("walker12", 1)
    env.physics.data("qvel")[0, 0] = 3.0
    info = env.step(torch.zeros(1, 12))[4]
    assert info["rewards"]["forward"].item() == pytest.approx(2.0 * 1.5 * env.step_dt)
    torque = env._state.torque.square().sum()
    assert info["rewards"]["torque"].item() == pytest.approx(-2e-4 * torque.item() * env.step_dt)


def test_success_is_a_metre_a_second_over_the_ground() -> None:
    env = make("walker12", 2)
    env.episode_length[:] = 499
    env.physics.data("qpos")[:, 0] = torch.tensor([9.9, 10.3])
    info = env.step(torch.zeros(2, 12))[4]
    assert info["success"].tolist() == [False, True]


def test_a_robot_on_its_side_has_fallen() -> None:
    env = make("walker12", 2)
    env.physics.data("qpos")[1, 3:7] = torch.tensor([math.cos(0.6), math.sin(0.6), 0.0, 0.0])
    _, _, terminated, _, _ = env.step(torch.zeros(2, 12))
    assert terminated.tolist() == [False, True]
