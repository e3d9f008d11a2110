"""What the trainer asks of an on-policy algorithm."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class Algorithm(Protocol):
    """Acts, remembers, learns. Observations are dicts of groups, each (num_envs, d).

    What comes from an environment was made in PyTorch's inference mode: what autograd is to keep has to be
    a copy, as in a buffer.

    Attributes:
        rollout_steps: steps of every environment between two updates.
        model: the networks and normalisers: all that `policy` needs. `state_dict()["model"]` is theirs.
    """

    rollout_steps: int

    @property
    def model(self) -> nn.Module:
        """The networks and normalisers."""
        ...

    def act(self, obs: dict[str, Tensor]) -> Tensor:
        """Return an exploring action (num_envs, action_dim); remember what the update needs."""
        ...

    def observe(
        self,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: dict[str, Tensor] | None,
    ) -> None:
        """Take in the outcome of the last `act`, (num_envs,) each.

        `final_obs` holds in the rows of finished environments their true last observation; None if
        no environment finished.
        """
        ...

    def update(self, obs: dict[str, Tensor]) -> dict[str, float]:
        """Learn from `rollout_steps` steps; `obs` is the observation after the last of them."""
        ...

    def policy(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the deterministic action (n, action_dim)."""
        ...

    def beginning(self) -> str:
        """What somebody who watches has to know when training starts, or goes on; mostly nothing."""
        ...

    def policy_module(self) -> nn.Module:
        """`policy` by itself: observations (n, d) of the group "policy", to actions (n, action_dim)."""
        ...

    def set_progress(self, fraction: float) -> None:
        """Say how much of the training is done, in [0, 1]: for linear schedules."""
        ...

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """Everything that an exact continuation needs; loads with `weights_only=True`.

        Not `whole`: without what was experienced so far, which a continuation then collects anew.
        What is of single environments is under `envs`, a row for each; the rest is the same on every rank.
        """
        ...

    def load_model(self, state: dict[str, Any]) -> None:
        """Take over networks and normalisers, `state_dict()["model"]` of the same kind."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        ...
