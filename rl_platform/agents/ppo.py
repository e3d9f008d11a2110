"""`agent=ppo`: our own PPO."""

from __future__ import annotations

from typing import Any

from rl_platform.agents.native import NativeAgent
from rl_platform.algos.ppo import make_ppo
from rl_platform.envs.base import VectorEnv
from rl_platform.models.actor_critic import ActorCriticConfig as Config
from rl_platform.threads import available_threads

__all__ = ["ALGOS", "Config", "make_agent"]
ALGOS = ("ppo",)


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build PPO with the networks of `cfg.agent` and the numbers of `cfg.algo`."""
    algo = make_ppo(
        cfg.agent,
        cfg.algo,
        env.observation_dims,
        env.action_dim,
        num_envs,
        env.device,
        cfg.seed,
        available_threads(cfg.num_threads),
        env.num_choices,
    )
    return NativeAgent(env, algo)
