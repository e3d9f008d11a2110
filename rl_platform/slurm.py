"""What SLURM says of our jobs. On a machine without SLURM it says nothing."""

from __future__ import annotations

import functools
import getpass
import subprocess

_TIMEOUT_S = 20.0


def ask(*command: str) -> str | None:
    """Return what one of SLURM's commands prints; None if it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def active_jobs() -> dict[str, str] | None:
    """Return job id → state of our jobs that have not ended, such as `{"12_3": "RUNNING"}`.

    None if nobody knows: there is no `squeue`, or its controller does not answer.
    """
    told = ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i %T")
    if told is None:
        return None
    return dict(line.split(maxsplit=1) for line in told.splitlines() if line.strip())


@functools.cache
def active_jobs_once() -> dict[str, str] | None:
    """As `active_jobs`, asked once in this process: for a command that shows many runs."""
    return active_jobs()
