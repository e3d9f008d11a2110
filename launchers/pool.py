"""A few processes at a time, each of which trains a run."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from rl_platform.run_dir import RunDir
from rl_platform.signals import EXIT_INTERRUPTED

_PR_SET_PDEATHSIG = 1
CODE = Path(__file__).resolve().parent.parent  # of the platform that runs here


class Handle(Protocol):
    """A job that has been started."""

    def status(self) -> int | None:
        """Return the exit status; None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to save and end."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class ChildProcess:
    """A job that is a process of ours, what it prints in the run's `job.log`."""

    def __init__(self, command: Sequence[str], log: Path, cpus: set[int], env: dict[str, str]) -> None:
        """Start it on some of the processors.

        It has a session of its own: a Ctrl-C at the keyboard is for whoever started it to pass on. Should
        this process be killed, it saves and ends.
        """
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=env,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, cpus)  # long before it counts its processors

    def status(self) -> int | None:
        """See `Handle`."""
        return self._process.poll()

    def stop(self) -> None:
        """See `Handle`."""
        self._process.terminate()

    def kill(self) -> None:
        """See `Handle`; the processes that it has started end with it."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


class Pool:
    """Keeps a number of jobs running until none is left; see `multirun.RunLauncher`."""

    poll_s = 0.1
    survives = False
    wait = True

    def __init__(self, slots: int, start: Callable[[RunDir, int], Handle], shows_output: bool) -> None:
        """Nothing is started yet.

        Args:
            slots: jobs at a time.
            start: starts a run in a slot (from 0).
            shows_output: print here what the jobs print.
        """
        self.slots, self.shows_output = slots, shows_output
        self._start, self._free = start, list(range(slots))
        self._waiting: list[RunDir] = []
        self._running: list[tuple[RunDir, Handle, int, IO[bytes] | None, str]] = []
        self._begun = 0

    def submit(self, home: Path, runs: Sequence[RunDir]) -> None:
        """See `RunLauncher`."""
        self._waiting += runs

    def poll(self) -> bool:
        """See `RunLauncher`."""
        for job in list(self._running):
            run, handle, slot, log, since = job
            status = handle.status()
            _show(log)
            if status is not None:
                self._running.remove(job)
                self._free.append(slot)
                if log is not None:
                    log.close()
                settle(run, status, since)
        while self._waiting and self._free:
            self._begin(self._waiting.pop(0), self._free.pop(0))
        return bool(self._running)

    def _begin(self, run: RunDir, slot: int) -> None:
        self._begun += 1
        log = None
        if self.shows_output:
            number = f"{self._begun} of {self._begun + len(self._waiting)}"
            print(f"\njob {number}: {run.path}", flush=True)
            run.job_log.touch()
            log = open(run.job_log, "rb")  # noqa: SIM115 - closed when the job has ended
            log.seek(0, os.SEEK_END)
        since = run.read_state()["updated"]
        self._running.append((run, self._start(run, slot), slot, log, since))

    def stop(self) -> None:
        """See `RunLauncher`."""
        self._waiting.clear()
        for _, handle, *_ in self._running:
            handle.stop()
        while self.poll():
            time.sleep(self.poll_s)

    def kill(self) -> None:
        """See `RunLauncher`."""
        for _, handle, *_ in self._running:
            handle.kill()


def end_with_parent() -> None:
    """Get SIGTERM, which saves and ends a run, when the process that started this one dies; on Linux.

    To be called between fork and exec, see prctl(2).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def shares(parts: int) -> list[set[int]]:
    """Share out this process's processors as evenly as possible; with more parts than those, by turns."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if parts >= len(cpus):
        return [{cpus[i % len(cpus)]} for i in range(parts)]
    each, more = divmod(len(cpus), parts)
    bounds = [i * each + min(i, more) for i in range(parts + 1)]
    return [set(cpus[a:b]) for a, b in itertools.pairwise(bounds)]


def job_command(run: RunDir) -> list[str]:
    """Return the command that trains a run, from its last checkpoint on."""
    return [sys.executable, "-m", "rl_platform.job", str(run.path)]


def job_environment(code: Path = CODE) -> dict[str, str]:
    """Return an environment whose Python takes the platform from `code`, wherever it starts."""
    path = os.pathsep.join(part for part in (str(code), os.environ.get("PYTHONPATH", "")) if part)
    return dict(os.environ) | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def settle(run: RunDir, status: int, since: str) -> None:
    """Write down for a job that has ended what it could not write itself.

    Args:
        run: the job's.
        status: its exit status, below 0 for the signal that ended it.
        since: what `run.json` had as `updated` when the job was started.
    """
    said = run.read_state()
    state = said["state"]
    # Started again, and ended by an error before it could say that it goes on.
    stillborn = state == "preempted" and said["updated"] == since and status > 0
    if run.is_live() or not (state in ("queued", "running") or stillborn):
        return
    if status == EXIT_INTERRUPTED:
        status = -signal.SIGINT
    if status < 0:
        how = f"killed by {signal.Signals(-status).name}"
        if -status in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):  # before it could catch that
            run.update_state(state="preempted" if state == "running" else state)
            return
        if state == "running":
            run.update_state(error=how)  # a `running` run that nobody trains is shown as killed
            return
    else:
        how = f"exit status {status}"
    when = "" if state == "running" else " before the training began"
    how = f"{how}{when}; more in {run.job_log.name}"
    last = _last_line(run)
    run.update_state(state="failed", error=f"{last} ({how})" if last else how)


def _last_line(run: RunDir) -> str:
    try:
        lines = run.job_log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def _show(log: IO[Any] | None) -> None:
    """Print what has been written to a job's log since the last time."""
    if log is not None and (text := log.read()):
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
