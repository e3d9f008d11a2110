"""Where the wall time of an iteration goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("simulation", "terms", "policy", "learning", "logging", "waiting")


class PhaseTimer:
    """Adds up the seconds spent in each named phase; phases do not nest."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time spent inside the `with` block under `phase`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def pop(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call, and start again at zero."""
        seconds, self._seconds = self._seconds, {}
        return seconds
