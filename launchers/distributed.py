"""`launcher=distributed`: each run on several ranks of this machine; the jobs of a sweep in sequence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launchers.pool import ChildProcess, Pool, job_environment, shares
from rl_platform.run_dir import RunDir

TRAINS_HERE = True


@dataclass
class Config:
    """`launcher=distributed`.

    Attributes:
        name: distributed.
        num_processes: ranks, each with its share of the processors and of `env.num_envs`.
    """

    name: str
    num_processes: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if self.num_processes < 1:
            yield "num_processes", f"must be at least 1, got {self.num_processes}"


class Launcher(Pool):
    """Each job is a process that starts and watches its ranks (`rl_platform.ranks`)."""

    def __init__(self, config: Config) -> None:
        """Nothing is started yet."""
        super().__init__(1, self._start_job, shows_output=True)
        self._ranks = config.num_processes

    def check(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `RunLauncher`: whatever passed the check of the configuration can be started here."""

    def _start_job(self, run: RunDir, slot: int) -> ChildProcess:
        command = [sys.executable, "-m", "rl_platform.ranks", str(run.path), str(self._ranks)]
        return ChildProcess(command, run.job_log, shares(1)[0], job_environment())
