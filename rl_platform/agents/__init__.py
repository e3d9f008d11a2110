"""Agents: chosen by name, `rl_platform/agents/<name>.py` or a dotted module of the user's own."""

from __future__ import annotations

from typing import Any

from rl_platform import registry
from rl_platform.agents.base import Agent
from rl_platform.envs.base import VectorEnv


def make_agent(cfg: Any, env: VectorEnv, num_envs: int) -> Agent:
    """Build the agent that `cfg.agent.name` names for an environment.

    Args:
        cfg: the run's configuration: `agent`, `algo`, `seed`.
        env: what the agent is to train on, or to act in.
        num_envs: environments of the training, on this rank; the policy itself acts in any number.

    Raises:
        UserError: there is no such agent, or it cannot do with this environment.
    """
    return registry.load("agent", cfg.agent.name).make_agent(cfg, env, num_envs)
