"""Delays between a policy and its robot, counted in control steps and drawn at each episode's start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rl_platform import chosen
from rl_platform.envs.randomness import EnvRandom


def whole_numbers(random: EnvRandom, which: torch.Tensor, ranges: Sequence[Sequence[int]]) -> torch.Tensor:
    """Draw a whole number from each [low, high], both included; `(rows, len(ranges))` int64."""
    return random.uniform_in(which, [[low, high + 1] for low, high in ranges]).floor().to(torch.int64)


def range_problem(value: Any) -> str | None:
    """Say what is wrong with a range of delays; None if it is [low, high], 0 ≤ low ≤ high."""
    whole = isinstance(value, Sequence) and len(value) == 2 and all(type(steps) is int for steps in value)
    if whole and 0 <= value[0] <= value[1]:
        return None
    return f"must be [low, high], whole numbers of control steps with 0 <= low <= high, got {value}"


class ActionDelay:
    """Gives each environment the action of some steps ago; until its first one arrives, zero.

    Zero means "hold" or "no force" in every action term; where the bounds exclude it, the nearest bound.
    """

    def __init__(
        self, random: EnvRandom, low: torch.Tensor, high: torch.Tensor, steps: Sequence[int], num_envs: int
    ) -> None:
        """Delay actions within [low, high], `(action_dim,)`, by `steps` = [least, most] control steps."""
        self._random, self._steps = random, steps
        self._neutral = torch.zeros_like(low).clamp(low, high)
        self._actions = self._neutral.repeat(steps[1] + 1, num_envs, 1)  # newest first
        self._lag = torch.zeros(num_envs, dtype=torch.int64, device=low.device)
        self._all_ids = torch.arange(num_envs, device=low.device)

    def reset(self, which: torch.Tensor) -> None:
        """Forget the actions of the episodes that ended; draw the next ones' delays."""
        lag = whole_numbers(self._random, which, [self._steps])[:, 0]
        chosen.put(self._actions, which, self._neutral.expand(len(self._actions), len(lag), -1), dim=1)
        chosen.put(self._lag, which, lag)

    def apply(self, action: torch.Tensor) -> torch.Tensor:
        """Take in this step's action and return the one that takes effect now, `(num_envs, action_dim)`."""
        self._actions.copy_(torch.cat([action[None], self._actions[:-1]]))
        return self._actions[self._lag, self._all_ids]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the actions on their way, and the delays."""
        return {"actions": self._actions.clone(), "lag": self._lag.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._actions.copy_(state["actions"])
        self._lag.copy_(state["lag"])
