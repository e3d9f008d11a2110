"""Small PPOs and made-up experience."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_platform.algos.ppo import PPO, PPOConfig, make_ppo
from rl_platform.models.actor_critic import ActorConfig, ActorCriticConfig
from rl_platform.models.mlp import MLPConfig

NUM_ENVS, STEPS, ACTIONS = 6, 8, 2
DIMS = {"policy": 4, "critic": 5}
NUMBERS: dict[str, Any] = dict(
    name="ppo", rollout_steps=STEPS, update_epochs=3, num_minibatches=4, learning_rate=1e-2,
    lr_schedule="adaptive", target_kl=0.01, min_learning_rate=1e-5, max_learning_rate=1e-2,
    gamma=0.9, gae_lambda=0.8, clip_coef=0.2, clip_vloss=True, ent_coef=0.01, vf_coef=0.7,
    max_grad_norm=0.5, normalize_advantage="batch", normalize_value=True, normalize_reward=False,
    recompute_advantage=False, reward_scale=1.0, bootstrap_truncated=True, bounds_loss_coef=0.1,
    noise_correlation=0.0,
    random_episode_start=False,
)  # fmt: skip


def small_config(**changes: Any) -> PPOConfig:
    return PPOConfig(**(NUMBERS | changes))


def small_ppo(
    dims: dict[str, int] = DIMS,
    num_envs: int = NUM_ENVS,
    actions: int = ACTIONS,
    seed: int = 0,
    std_type: str = "log",
    hidden: int = 16,
    mixed_precision: bool = False,
    compile_losses: bool = False,
    normalize_obs: bool = True,
    num_threads: int = 1,
    num_choices: int | None = None,
    device: str = "cpu",
    **changes: Any,
) -> PPO:
    actor = ActorConfig([hidden, hidden], "elu", std_type, init_std=0.5, min_std=0.05, max_std=2.0)
    critic = MLPConfig([hidden], "tanh")
    agent = ActorCriticConfig("ppo", actor, critic, normalize_obs, compile_losses, mixed_precision)
    return make_ppo(
        agent, small_config(**changes), dims, actions, num_envs, device, seed, num_threads, num_choices
    )


def observations(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {g: torch.randn(NUM_ENVS, d, generator=generator) for g, d in DIMS.items()}


def play(ppo: PPO, seed: int = 0) -> dict[str, Tensor]:
    """Fill a rollout in which episodes end either way; return the observation after it."""
    generator = torch.Generator().manual_seed(1000 + seed)
    for t in range(ppo.rollout_steps):
        action = ppo.act(observations(100 * seed + t))
        reward = -(action - 0.3).square().sum(-1)
        terminated, truncated = torch.rand(2, NUM_ENVS, generator=generator) < 0.2
        ppo.observe(reward, terminated, truncated, observations(100 * seed + 50 + t))
    return observations(100 * seed + 99)


def weights(ppo: PPO) -> Tensor:
    return torch.cat([p.detach().flatten() for p in ppo.model.parameters()])
