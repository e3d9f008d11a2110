"""`launcher=submitit_local`: on this machine what `launcher=slurm` does on a cluster, to try it out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers import snapshot, submission, worker
from launchers.pool import Pool
from rl_platform.run_dir import RunDir

_FOR_EVER_MIN = 60 * 24 * 365


@dataclass
class Config:
    """`launcher=submitit_local`.

    Attributes:
        name: submitit_local.
        array_parallelism: jobs at a time.
        gpus_per_node: that a job sees.
        setup: shell commands before a job.
    """

    name: str
    array_parallelism: int
    gpus_per_node: int
    setup: list[str]

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if self.array_parallelism < 1:
            yield "array_parallelism", f"must be at least 1, got {self.array_parallelism}"
        if self.gpus_per_node < 0:
            yield "gpus_per_node", f"must be at least 0, got {self.gpus_per_node}"


def make_executor(config: Config, folder: Path) -> Any:
    """Return submitit's executor with these settings."""
    import submitit

    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(
        timeout_min=_FOR_EVER_MIN,
        gpus_per_node=config.gpus_per_node,
        setup=config.setup,
        stderr_to_stdout=True,
    )
    return executor


class _Job:
    """A job of submitit's as the pool sees it."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def status(self) -> int | None:
        """0 when it has ended: how is in the run directory."""
        return 0 if self._job.done() else None

    def stop(self) -> None:
        """Ask it to save and end."""
        self._job._process.terminate()  # its controller hands that on; submitit's `cancel` kills after 1 s

    def kill(self) -> None:
        """End it at once: the run's process notices that its parent is gone."""
        self._job._process.kill()


class Launcher(Pool):
    """Each job is a submitit job; the code is kept for those that start later."""

    def __init__(self, config: Config) -> None:
        """Nothing is started yet."""
        super().__init__(config.array_parallelism, self._start_job, shows_output=False)
        self._config = config
        self._outputs = Path("outputs")
        self._executor: Any = None
        self._code = Path()

    def check(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """See `RunLauncher`."""
        submission.require_submitit("submitit_local")
        for config in configs:
            submission.needs_gpus(config, self._config.gpus_per_node)
        self._outputs = Path(configs[0]["output_dir"])

    def submit(self, home: Path, runs: Sequence[RunDir]) -> None:
        """See `RunLauncher`."""
        self._code = snapshot.take(home, self._outputs)
        if self._executor is None:
            self._executor = make_executor(self._config, submission.new_folder(home))
        super().submit(home, runs)

    def _start_job(self, run: RunDir, slot: int) -> _Job:
        with submission.environment(self._code), _no_interrupt():
            return _Job(self._executor.submit(worker.main, str(run.path.absolute())))


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let processes that are started here ignore a Ctrl-C at the keyboard: it is ours to hand on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
