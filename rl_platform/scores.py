"""How good the training episodes were of late: for the logs, the best checkpoint and score_to_win."""

from __future__ import annotations

from collections import deque
from typing import Any

Score = tuple[float, float]


class EpisodeScores:
    """Collects `VectorEnv.episode_log` of every iteration.

    `pop` gives the means over the episodes since the last `pop`, `score` and `mean_return` those over
    the latest episodes: as many iterations as it takes for `window` episodes.
    """

    def __init__(self, window: int) -> None:
        """`window`: episodes without which there is no score; fewer would crown a lucky one."""
        self._window = window
        self._latest: deque[dict[str, float]] = deque()
        self._pending: list[dict[str, float]] = []

    def add(self, log: dict[str, float]) -> None:
        """Take in an iteration's episode means; `{}` if no episode ended."""
        if not log:
            return
        self._pending.append(log)
        self._latest.append(log)
        while sum(entry["Train/episodes"] for entry in self._latest) - self._first() >= self._window:
            self._latest.popleft()

    def _first(self) -> float:
        return self._latest[0]["Train/episodes"]

    def pop(self) -> dict[str, float]:
        """Return the means over all episodes since the last call; `{}` if none ended."""
        pending, self._pending = self._pending, []
        return merge_logs(pending)

    @property
    def score(self) -> Score | None:
        """(success rate, mean return) of the latest episodes; None while fewer than the window ended."""
        latest = merge_logs(list(self._latest))
        if latest.get("Train/episodes", 0.0) < self._window:
            return None
        return latest.get("Train/success_rate", 0.0), latest["Train/mean_reward"]

    @property
    def mean_return(self) -> float | None:
        """Mean return of the latest episodes; None while fewer than the window ended."""
        return None if self.score is None else self.score[1]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs."""
        return {"latest": list(self._latest), "pending": list(self._pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._latest = deque(state["latest"])
        self._pending = list(state["pending"])


def merge_logs(logs: list[dict[str, float]]) -> dict[str, float]:
    """Average over episodes; a metric that is missing in some logs is averaged over the others."""
    logs = [log for log in logs if log]  # of an iteration, or a rank, where no episode ended
    if len(logs) <= 1:
        return dict(logs[0]) if logs else {}
    merged: dict[str, float] = {}
    for name in {name: None for log in logs for name in log}:
        parts = [(log[name], log["Train/episodes"]) for log in logs if name in log]
        weight = sum(episodes for _, episodes in parts)
        merged[name] = sum(value * episodes for value, episodes in parts) / weight
    merged["Train/episodes"] = sum(log["Train/episodes"] for log in logs)
    return merged
