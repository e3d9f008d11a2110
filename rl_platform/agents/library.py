"""What the agents of other libraries have in common: `rl_games.py`, `rsl_rl.py`, `sb3.py`, `skrl.py`.

Such an agent is an `Algorithm` whose networks, rollout and learning rule are the library's. Environments,
collecting, evaluation, logs, checkpoints and resume are those of every other agent, so that two runs differ
in how they learn. Its module has `ONLY`: of the settings that agents share, those where the library has less
to choose from, with the values that it has, its own choice first. `rl_platform.config` holds a run to them.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from rl_platform import distributed, registry
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import UserError
from rl_platform.models.mlp import MLPConfig

# What our PPO has beyond the published one, and a library only where its module says so (`our_own_but`).
OUR_OWN: dict[str, list[Any]] = {
    "algo.normalize_value": [False],
    "algo.recompute_advantage": [False],
    "algo.bounds_loss_coef": [0.0],
    "algo.noise_correlation": [0.0],
    "agent.compile": [False],
}

ACTIVATIONS = {"elu": nn.ELU, "gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def our_own_but(*keys: str) -> dict[str, list[Any]]:
    """`OUR_OWN` without what a library has too."""
    return {key: values for key, values in OUR_OWN.items() if key not in keys}


def require(agent: str, module: str) -> ModuleType:
    """Import a part of a library.

    Raises:
        UserError: it is not installed, or several ranks were asked for, which none of them shares out here.
    """
    if distributed.world_size() > 1:
        raise UserError(
            f"agent={agent} trains on one rank: leave out launcher=distributed, or write agent=ppo."
        )
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"agent={agent} needs the package {error.name}: {registry.installation(agent)}"
        ) from error


class Learner:
    """What every such `Algorithm` does alike.

    Attributes:
        model: the library's networks and normalisers.
    """

    model: nn.Module
    _policy: nn.Module  # observations (n, d) to the likeliest actions, by parts of `model`

    @torch.no_grad()
    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """See `Algorithm`."""
        return self._policy(obs["policy"])

    def beginning(self) -> str:
        """See `Algorithm`."""
        return ""

    def policy_module(self) -> nn.Module:
        """See `Algorithm`."""
        return self._policy

    def load_model(self, state: dict[str, Any]) -> None:
        """See `Algorithm`."""
        self.model.load_state_dict(state)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let all parameters learn at this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def observation_space(env: VectorEnv, group: str) -> gymnasium.spaces.Box:
    """The columns of a group of observations, as Gymnasium says it."""
    return gymnasium.spaces.Box(-np.inf, np.inf, (env.observation_dims[group],))


def action_space(env: VectorEnv) -> gymnasium.Space:
    """The actions, as Gymnasium says it."""
    if env.num_choices is not None:
        return gymnasium.spaces.Discrete(env.num_choices)
    return gymnasium.spaces.Box(env.action_low.cpu().numpy(), env.action_high.cpu().numpy())


def mlp(inputs: int, cfg: MLPConfig, outputs: int) -> nn.Sequential:
    """Linear layers as PyTorch initialises them, with an activation between them."""
    layers: list[nn.Module] = []
    for size in cfg.hidden_sizes:
        layers += [nn.Linear(inputs, size), ACTIVATIONS[cfg.activation]()]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
