"""What `train`, `eval` and `play` ask of whatever learns: ours or another library's."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from rl_platform.trainer import Outcome, Session


class Agent(Protocol):
    """Networks, and the implementation that trains them.

    A module of `rl_platform.agents` has a dataclass `Config` (the group `agent`) and a function
    `make_agent(cfg, env, num_envs) -> Agent`;
    perhaps `ALGOS`, the names of the algorithms that it can do with.
    """

    @property
    def num_parameters(self) -> int:
        """Numbers that training changes."""
        ...

    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the deterministic action `(n, action_dim)` for observations `(n, d)`."""
        ...

    def policy_module(self) -> nn.Module:
        """`policy` by itself: observations `(n, d)` of the group "policy", to actions `(n, action_dim)`."""
        ...

    def fit(self, session: Session, checkpoint: dict[str, Any] | None) -> Outcome:
        """Train to a limit of the session's schedule, from a checkpoint on if there is one.

        Saves on the way and at the end, in the session's run directory; a checkpoint has at least
        `iteration`, `env_steps`, `loggers` and what `load_policy` needs.
        """
        ...

    def load_policy(self, checkpoint: dict[str, Any]) -> None:
        """Make `policy` that of a checkpoint; `fit` without one begins with it.

        Raises:
            RuntimeError: the networks have other sizes.
        """
        ...
