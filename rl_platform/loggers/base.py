"""What the trainer asks of whatever keeps its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rl_platform.run_dir import RunDir


class Logger(Protocol):
    """Keeps the metrics of one run.

    A module of `rl_platform.loggers` has a dataclass `Config` (the keys `logger.<name>`) and a function
    `make_logger(config, context) -> Logger | None`.
    """

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Keep named numbers; `env_steps` grows from call to call."""
        ...

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        """Keep a PNG file."""
        ...

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        """Keep an MP4 file."""
        ...

    def summary(self, values: Mapping[str, Any]) -> None:
        """Keep the run's result, as `summary.json` has it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what the logger of a resumed run needs; plain values only."""
        ...

    def close(self, state: str) -> None:
        """Write what is left. `state`: finished, failed or preempted."""
        ...


@dataclass(frozen=True)
class Context:
    """The run that a logger is made for.

    Attributes:
        cfg: the run's complete configuration.
        run_dir: where files go.
        state: the logger's `state_dict` in the checkpoint that the run goes on from; else empty.
        env_steps: of that checkpoint, else 0. What was logged after it is logged again, so that the
            logger must forget it now.
        say: tells the user something, in one line.
    """

    cfg: Any
    run_dir: RunDir
    state: Mapping[str, Any]
    env_steps: int
    say: Callable[[str], None]


class GrowingFile:
    """A file that is written to at once, piece by piece. What a full disk refuses waits for room."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        """Go on at the end of the file; `say` is told once if it cannot be written to."""
        self._path, self._say = path, say
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for as long as the run lasts
        self._waiting = b""
        self._told = False

    def write(self, data: bytes) -> None:
        """Append to the file, after what is still waiting."""
        self._waiting += data
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._told:
                self._say(f"{self._path} waits for the disk: {error.strerror}. Training goes on.")
            self._told = True

    def close(self) -> None:
        """Close the file; what still finds no room is lost."""
        self.write(b"")
        self._file.close()


class LoggerGroup:
    """Several loggers as one. One that fails is reported and left out; training goes on."""

    def __init__(
        self, loggers: Mapping[str, Logger], states: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        """Join loggers by name; `states` is kept for those that are not among them in this sitting."""
        self._loggers = dict(loggers)
        self._states = dict(states)
        self._say = say

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.log(metrics, env_steps))

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.log_image(name, path, env_steps))

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.log_video(name, path, env_steps))

    def summary(self, values: Mapping[str, Any]) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.summary(values))

    def state_dict(self) -> dict[str, Any]:
        """Return the loggers' states by name, the last known one of those that are left out."""
        self._each(lambda logger: logger.state_dict(), keep=True)
        return dict(self._states)

    def close(self, state: str) -> None:
        """See `Logger`."""
        self._each(lambda logger: logger.close(state))
        self._loggers.clear()

    def _each(self, call: Callable[[Logger], Any], keep: bool = False) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                result = call(logger)
            except Exception as error:  # anything that a logger can think of
                del self._loggers[name]
                self._say(
                    f"The logger {name} failed and is left out from now on; training goes on. "
                    f"({type(error).__name__}: {error})"
                )
            else:
                if keep:
                    self._states[name] = result
