"""What a submitit job does: train a run in a process of its own, and hand on signals that ask for a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from launchers.pool import end_with_parent, job_command, settle
from rl_platform import slurm
from rl_platform.run_dir import RunDir

_STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def main(run_path: str) -> None:
    """Train a run from its last checkpoint on; the process ends with the training's exit status.

    submitit's own handling of signals is set aside: it would ask for a requeueing before the run is saved,
    and rests on a pickle where the run directory has everything.
    """
    received: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, frame: object) -> None:
        received.append(number)
        if child is not None and child.poll() is None:
            child.send_signal(number)

    for number in _STOPS:
        signal.signal(number, hand_on)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    run = RunDir(Path(run_path))
    since = run.read_state()["updated"]
    leads = os.environ.get("SLURM_PROCID", "0") == "0"
    if not received:
        child = _start(run, leads)
        if received and child.poll() is None:
            child.send_signal(received[-1])  # it came while the process was made
    status = child.wait() if child is not None else -received[0]
    if leads:
        settle(run, status, since)
        if received[:1] == [signal.SIGTERM] and was_cancelled():
            run.update_state(state="cancelled")
    if status != 0:
        sys.exit(status if status > 0 else 128 - status)


def was_cancelled() -> bool:
    """Whether SLURM ends this job for good (`scancel`), where a preempted one runs on until it has saved."""
    job = os.environ.get("SLURM_JOB_ID")
    state = slurm.ask("squeue", "-h", "-t", "all", "-j", job, "-o", "%T") if job else None
    return state is not None and state.strip() != "RUNNING"


def _start(run: RunDir, leads: bool) -> subprocess.Popen[bytes]:
    """Start the training; what the first rank prints goes to the run's log, and should we die, it stops."""
    log: IO[bytes] | None = open(run.job_log, "ab") if leads else None  # noqa: SIM115 - closed below
    try:
        return subprocess.Popen(
            job_command(run),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    finally:
        if log is not None:
            log.close()
