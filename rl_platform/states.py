"""The state of a run as it is, not only as it was last written down."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from rl_platform import slurm
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir

ENDED = ("finished", "failed", "cancelled", "killed", "lost")  # nothing will go on by itself
UNSUCCESSFUL = ("failed", "cancelled", "killed")
Jobs = Mapping[str, str] | None


def state_of(
    run: RunDir, said: Mapping[str, Any] | None = None, jobs: Callable[[], Jobs] = slurm.active_jobs_once
) -> str:
    """Return queued, running, preempted, cancelled, failed, finished, killed, or lost (no `run.json`).

    A process that is killed cannot say so, and a job that is cancelled before it starts has no process:
    a run that is `running` is looked for, by its lock or in SLURM's queue, and so is a job that waits there.

    Args:
        run: the run.
        said: what its `run.json` says (`RunDir.said`), if that is known.
        jobs: asks for SLURM's active jobs; only called for runs that have one.
    """
    said = run.said() if said is None else said
    try:
        return _state_of(run, said, jobs) if said else "lost"
    except UserError:
        return "lost"


def _state_of(run: RunDir, said: Mapping[str, Any], jobs: Callable[[], Jobs]) -> str:
    state = str(said.get("state", "?"))
    if state == "running":
        if run.is_live():
            return state
        said = run.read_state()  # again: it may have ended well since
        state = str(said.get("state", "?"))
    if state in ("finished", "failed"):
        return state
    job = run.slurm_job or (said.get("job_id") if state == "running" else None)
    if job is None:
        return "killed" if state == "running" and _is_here(said) else state
    known = jobs()
    if known is None:
        return "killed" if state == "running" and _is_here(said) else state
    return _with_job(state, known.get(str(job)))


def _with_job(state: str, job: str | None) -> str:
    """The state of a run that SLURM has a job for (`job`: that one's state), or had (None)."""
    if job is None:
        return {"running": "killed", "queued": "cancelled", "preempted": "cancelled"}.get(state, state)
    if job == "RUNNING":
        return "running"
    return {"running": "preempted", "cancelled": "preempted"}.get(state, state) if job == "PENDING" else state


def _is_here(said: Mapping[str, Any]) -> bool:
    """Whether the run's process was on this machine, where it would be seen; locks of others may not be."""
    return said.get("host") == socket.gethostname()
