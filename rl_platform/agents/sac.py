"""`agent=sac`: our own SAC."""

from __future__ import annotations

from typing import Any

from rl_platform.agents.native import NativeAgent
from rl_platform.algos.sac import make_sac
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import UserError
from rl_platform.models.soft_actor_critic import SoftActorCriticConfig as Config
from rl_platform.threads import available_threads

__all__ = ["ALGOS", "Config", "make_agent"]
ALGOS = ("sac",)


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> NativeAgent:
    """Build SAC with the networks of `cfg.agent` and the numbers of `cfg.algo`.

    Raises:
        UserError: the environment's actions are choices.
    """
    if env.num_choices is not None:
        raise UserError("agent=sac has continuous actions only, and this environment has choices: agent=ppo")
    algo = make_sac(
        cfg.agent,
        cfg.algo,
        env.observation_dims,
        (env.action_low, env.action_high),
        num_envs,
        env.device,
        cfg.seed,
        available_threads(cfg.num_threads),
    )
    return NativeAgent(env, algo)
