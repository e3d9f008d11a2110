from __future__ import annotations

import math

import pytest
import torch

from tests.envs.test_every_env import make


def test_isaac_labs_sizes() -> None:
    env = make("cartpole", 2)
    assert env.observation_dims == {"policy": 4}
    assert (env.action_dim, env.max_episode_steps) == (1, 300)
    assert env.step_dt == pytest.approx(1 / 60)
    assert env.action_high.tolist() == [4.0]  # 400 N


def test_a_hanging_pole_swings_with_the_period_of_a_rod() -> None:
    # about a fixed end: T = 2π √(2 l / 3 g); the cart is held by a weight that it does not have
    env = make("cartpole", 1, 3, "env.terminations.pole_fallen=null", "env.episode_length_s=20.0")
    model = env.physics.model
    env.physics.expand("body_mass")[:, model.body("cart").id] = 1e6
    env.physics.data("qpos")[0] = torch.tensor([0.0, math.pi - 0.01])
    env.physics.data("qvel")[0] = 0.0
    angles = []
    for _ in range(600):
        env.step(torch.zeros(1, 1))
        angles.append(env._state.pole_angle[0] - math.pi)
    values = torch.stack(angles)
    crossings = ((values[:-1] < 0) & (values[1:] >= 0)).nonzero()[:, 0].double()
    period = crossings.diff().mean().item() * env.step_dt
    assert period == pytest.approx(2 * math.pi * math.sqrt(2.0 / (3 * 9.81)), rel=0.01)


def test_rewards_and_ends() -> None:
    env = make("cartpole", 4)
    places = torch.tensor([[0.0, 0.1], [2.9, 0.0], [3.2, 0.0], [0.0, 1.8]], dtype=torch.float64)
    env.physics.data("qpos")[:] = places
    env.physics.data("qvel")[:] = 0.0
    _, _, terminated, _, info = env.step(torch.zeros(4, 1))
    assert terminated.tolist() == [False, False, True, True]
    dt = env.step_dt
    assert info["rewards"]["alive"].tolist() == pytest.approx([dt, dt, 0.0, 0.0])
    assert info["rewards"]["terminating"].tolist() == pytest.approx([0.0, 0.0, -2 * dt, -2 * dt])
    assert info["rewards"]["pole_pos"][0].item() == pytest.approx(-(0.1**2) * dt, rel=0.05)


@pytest.mark.parametrize(("fell_at", "good"), [(None, True), (1.0, True), (2.5, False)])
def test_success_is_balance_from_two_seconds_on(fell_at: float | None, good: bool) -> None:
    env = make("cartpole", 1, 3, "env.terminations.pole_fallen=null")
    success = torch.zeros(1, dtype=torch.bool)
    for step in range(env.max_episode_steps):
        fallen = fell_at is not None and step == round(fell_at / env.step_dt)
        env.physics.data("qpos")[0] = torch.tensor([0.0, 0.5 if fallen else 0.0])
        env.physics.data("qvel")[0] = 0.0
        success = env.step(torch.zeros(1, 1))[4]["success"]
    assert success.tolist() == [good]
