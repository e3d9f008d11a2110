"""Agents whose learning rule is one of `rl_platform.algos`, trained by our own trainer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rl_platform.algos.base import Algorithm
from rl_platform.envs.base import VectorEnv
from rl_platform.trainer import Outcome, Session, Trainer


class NativeAgent:
    """An `Agent` around an `Algorithm`."""

    def __init__(self, env: VectorEnv, algo: Algorithm) -> None:
        """Train `algo` on `env`."""
        self.env, self.algo = env, algo
        self.num_parameters = sum(parameter.numel() for parameter in algo.model.parameters())

    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the deterministic action `(n, action_dim)`."""
        return self.algo.policy(obs)

    def policy_module(self) -> nn.Module:
        """See `Agent`."""
        return self.algo.policy_module()

    def fit(self, session: Session, checkpoint: dict[str, Any] | None) -> Outcome:
        """Train, from a checkpoint on if there is one."""
        trainer = Trainer(self.env, self.algo, session)
        if checkpoint is not None:
            trainer.load_state_dict(checkpoint)
        return trainer.fit()

    def load_policy(self, checkpoint: dict[str, Any]) -> None:
        """Make `policy` that of a checkpoint."""
        self.algo.load_model(checkpoint["algo"]["model"])
