"""Requests to stop: SIGINT, SIGTERM and the schedulers' SIGUSR1 and SIGUSR2."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
EXIT_INTERRUPTED = 128 + signal.SIGINT


class Interrupted(Exception):  # noqa: N818  a wish of the user's, not an error
    """Work was given up half-way because a stop was asked for."""


class StopSignal:
    """A flag that a signal raises, so that the work in hand is finished and saved first.

    As a context manager it catches the signals, and gives them back at the end. A second SIGINT
    calls `on_abort` and ends the process at once. Outside of the main thread, where Python lets
    nobody catch signals, it is a flag that nothing raises.
    """

    def __init__(self, on_abort: Callable[[], None] = lambda: None) -> None:
        """`on_abort`: last words before a second SIGINT ends the process."""
        self.received: signal.Signals | None = None
        self._on_abort = on_abort
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Catch the signals."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return self.received is not None

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.received is not None:
            raise Interrupted(f"stopped by {self.received.name}")

    @property
    def exit_code(self) -> int:
        """130 after SIGINT; 0 otherwise: a scheduler that preempts a job has not met an error."""
        return EXIT_INTERRUPTED if self.received == signal.SIGINT else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            self._on_abort()
            os._exit(EXIT_INTERRUPTED)  # no clean-up: the user asked twice
        self.received = signal.Signals(number)
