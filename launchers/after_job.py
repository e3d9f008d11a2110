"""`python -m launchers.after_job STATUS FOLDER`: the end of a SLURM job's script, when its step has ended.

A run that was asked to stop goes back into the queue; so does one that was killed, unless that happened at
the same checkpoint before. It goes on in its directory, from its last checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from launchers import submission
from launchers.worker import was_cancelled
from rl_platform.run_dir import RunDir

_STOPPED = tuple(128 + number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT))


def main(status: int, folder: Path) -> int:
    """Requeue this job if its run has to go on; return the exit status.

    Args:
        status: of the job's step.
        folder: where `submission.write_jobs` wrote which run each job has.
    """
    run = RunDir.open(submission.run_of_this_job(folder))
    said = run.read_state()
    if said["state"] in ("finished", "failed", "cancelled") or was_cancelled():
        return status
    if said["state"] != "preempted" and status not in _STOPPED:
        here = said.get("iteration")
        if "killed_at" in said and said["killed_at"] == here:
            how = f"killed twice at iteration {here or 0} (exit status {status}); is its memory too small?"
            run.update_state(state="failed", error=how)
            return status or 1
        run.update_state(killed_at=here)
    job = os.environ["SLURM_JOB_ID"]
    print(f"{run.path}: back into the queue (exit status {status})", flush=True)
    subprocess.run(["scontrol", "requeue", job], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
