"""Environments as a user's package registers them: imported by env.import=tests.own_environments."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env):
    """Counts its steps; the observation is a Dict, and a buffer that it writes into again and again.

    Attributes:
        fail_at: step at which it raises.
        die_at: step at which its process ends.
        nan_at: step at which its reward is NaN.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  Gymnasium's own annotation

    def __init__(
        self,
        render_mode: str | None = None,
        fail_at: int = -1,
        die_at: int = -1,
        nan_at: int = -1,
        tells_success: bool = True,
    ) -> None:
        self.render_mode = render_mode
        self.fail_at, self.die_at, self.nan_at = fail_at, die_at, nan_at
        self.tells_success = tells_success
        self.observation_space = spaces.Dict(
            {"count": spaces.Box(0.0, np.inf, (1,)), "start": spaces.Box(0.0, 1.0, (2,), np.float64)}
        )
        self.action_space = spaces.Discrete(3, start=5)
        self.buffer: dict[str, np.ndarray] = {"count": np.zeros(1, np.float32), "start": np.zeros(2)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.buffer["count"][:] = 0
        self.buffer["start"][:] = self.np_random.random(2)
        return self.buffer, {"anything": object()}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.buffer["count"] += 1
        count = int(self.buffer["count"][0])
        if count == self.fail_at:
            raise ValueError("the wheel came off")
        if count == self.die_at:
            os._exit(7)
        reward = float("nan") if count == self.nan_at else float(action)
        info: dict[str, Any] = {"distance": count / 2, "text": "x" * count}
        if self.tells_success:
            info["is_success"] = action == 7
        return self.buffer, reward, count >= 4 and action == 6, False, info

    def render(self) -> np.ndarray:
        return np.full((48, 64, 3), 10 * int(self.buffer["count"][0]), np.uint8)


class Spaces(gymnasium.Env):
    """Does nothing, with the spaces it is asked for."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


gymnasium.register("tests/Counter-v0", entry_point=f"{__name__}:Counter", max_episode_steps=6)
gymnasium.register("tests/Spaces-v0", entry_point=f"{__name__}:Spaces")
