"""PPO learns small problems, on every one of three seeds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rl_platform.algos.ppo import PPO
from tests.algos.helpers import small_ppo

NUM_ENVS = 64


def settings(**changes: Any) -> dict[str, Any]:
    return {"learning_rate": 3e-3, "ent_coef": 0.0, "bounds_loss_coef": 0.0, "target_kl": 0.02} | changes


def train_bandit(ppo: PPO, iterations: int, generator: torch.Generator) -> None:
    """One-step episodes: the best action is half of the observation."""
    obs = torch.randn(NUM_ENVS, 2, generator=generator)
    always, never = torch.ones(NUM_ENVS, dtype=torch.bool), torch.zeros(NUM_ENVS, dtype=torch.bool)
    for _ in range(iterations):
        for _ in range(ppo.rollout_steps):
            action = ppo.act({"policy": obs})
            reward = -(action - 0.5 * obs).square().sum(-1)
            obs = torch.randn(NUM_ENVS, 2, generator=generator)
            ppo.observe(reward, always, never, None)
        ppo.update({"policy": obs})


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_contextual_bandit(seed: int, mixed_precision: bool) -> None:
    ppo = small_ppo(
        {"policy": 2},
        NUM_ENVS,
        2,
        seed,
        hidden=32,
        mixed_precision=mixed_precision,
        **settings(rollout_steps=16),
    )
    generator = torch.Generator().manual_seed(seed)
    train_bandit(ppo, 60, generator)
    obs = torch.randn(500, 2, generator=generator)
    error = (ppo.policy({"policy": obs}) - 0.5 * obs).abs().mean()
    assert error < 0.1  # untrained: 0.4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_contextual_bandit_of_choices(seed: int) -> None:
    """Right is the sector that the observation points to; by chance, one in four."""
    ppo = small_ppo({"policy": 2}, NUM_ENVS, 1, seed, hidden=32, num_choices=4, **settings(rollout_steps=16))
    generator = torch.Generator().manual_seed(seed)
    always, never = torch.ones(NUM_ENVS, dtype=torch.bool), torch.zeros(NUM_ENVS, dtype=torch.bool)

    def right(obs: Tensor) -> Tensor:
        return 2 * (obs[:, 0] > 0) + (obs[:, 1] > 0).long()

    obs = torch.randn(NUM_ENVS, 2, generator=generator)
    for _ in range(40):
        for _ in range(ppo.rollout_steps):
            action = ppo.act({"policy": obs})
            ppo.observe((action.squeeze(1) == right(obs)).float(), always, never, None)
            obs = torch.randn(NUM_ENVS, 2, generator=generator)
        ppo.update({"policy": obs})
    obs = torch.randn(500, 2, generator=generator)
    assert (ppo.policy({"policy": obs}).squeeze(1) == right(obs)).float().mean() > 0.95


class PointMass:
    """Walk to the origin of a plane; only time ends an episode, after 20 steps, not all at once."""

    limit = 20

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.position = self.start(NUM_ENVS)
        self.age = torch.arange(NUM_ENVS) % self.limit

    def start(self, n: int) -> Tensor:
        return 2.0 * torch.rand(n, 2, generator=self.generator) - 1.0

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move; return reward, truncated and the last positions."""
        self.position = self.position + 0.2 * action.clamp(-1, 1)
        self.age += 1
        truncated, final = self.age >= self.limit, self.position
        self.position = torch.where(truncated.unsqueeze(-1), self.start(NUM_ENVS), self.position)
        self.age[truncated] = 0
        return -final.norm(dim=-1), truncated, final


def mean_distance(ppo: PPO, seed: int) -> float:
    """Of the deterministic policy from the origin, after 15 steps."""
    env = PointMass(seed)
    for _ in range(15):
        env.position = env.position + 0.2 * ppo.policy({"policy": env.position}).clamp(-1, 1)
    return env.position.norm(dim=-1).mean().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("std_type", ["log", "state_dependent"])
def test_point_mass(seed: int, std_type: str) -> None:
    ppo = small_ppo(
        {"policy": 2}, NUM_ENVS, 2, seed, std_type, hidden=32, **settings(rollout_steps=16, gae_lambda=0.95)
    )
    env = PointMass(seed)
    never = torch.zeros(NUM_ENVS, dtype=torch.bool)
    for _ in range(60):
        for _ in range(ppo.rollout_steps):
            reward, truncated, final = env.step(ppo.act({"policy": env.position}))
            ppo.observe(reward, never, truncated, {"policy": final})
        ppo.update({"policy": env.position})
    assert mean_distance(ppo, seed + 100) < 0.1  # untrained: 0.77
