"""`launcher=local`: the jobs of a sweep on this machine, one after the other or a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launchers.pool import ChildProcess, Pool, job_command, job_environment, shares
from rl_platform.run_dir import RunDir

TRAINS_HERE = True


@dataclass
class Config:
    """`launcher=local`.

    Attributes:
        name: local.
        parallel: jobs at a time.
    """

    name: str
    parallel: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if self.parallel < 1:
            yield "parallel", f"must be at least 1, got {self.parallel}"


class Launcher(Pool):
    """Each job is a process; with several at a time each has its share of the processors."""

    def __init__(self, config: Config) -> None:
        """Nothing is started yet."""
        super().__init__(config.parallel, self._start_job, shows_output=config.parallel == 1)
        self._cpus = shares(config.parallel)

    def check(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `RunLauncher`: whatever passed the check of the configuration can be started here."""

    def _start_job(self, run: RunDir, slot: int) -> ChildProcess:
        return ChildProcess(job_command(run), run.job_log, self._cpus[slot], job_environment())
