"""Time a sweep of many runs on a real SLURM of this machine: handing it in, looking at it, going through it.

    python -m benchmarks.sweeps [--jobs 200] [--to-the-end]

Starts the SLURM of tests/cluster (root, Debian's packages), types the commands a user would, and prints
JSON: seconds from typing the command until every job is in SLURM's queue and the prompt is back, seconds
of `run.py sweep DIR` (median of five) while the jobs wait or run, processor seconds of both, and with
--to-the-end the seconds until all have finished: runs of one tiny iteration, of which each pays for
importing PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.cluster.slurm import Slurm, cluster, missing

RUN_PY = Path(__file__).resolve().parent.parent / "run.py"
LOOKS = 5
TINY = [
    *(
        "env=cartpole",
        "agent=ppo",
        "max_iterations=1",
        "total_env_steps=null",
        "env.num_envs=8",
        "video=false",
    ),
    *("algo.rollout_steps=8", "algo.num_minibatches=1", "algo.update_epochs=1", "num_threads=1"),
    *("eval.episodes=4", "eval.num_envs=4", "video=false"),
    *("launcher=slurm", "launcher.wait=false", "launcher.cpus_per_task=1"),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time a sweep of many runs on a SLURM of this machine.")
    parser.add_argument("--jobs", type=int, default=200, help="runs of the sweep (default: 200)")
    parser.add_argument("--to-the-end", action="store_true", help="wait until all have finished, and time it")
    options = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder, cluster() as slurm:
        print(json.dumps(measure(slurm, Path(folder), options.jobs, options.to_the_end), indent=2))


def measure(slurm: Slurm, folder: Path, jobs: int, to_the_end: bool) -> dict[str, object]:
    """Return the figures, by name, in seconds."""
    submission_s, submission_cpu_s, _ = timed(slurm, folder, "-m", *TINY, f"seed=range({jobs})")
    begun = time.monotonic()
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    queued = slurm.run("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()
    looks = [timed(slurm, folder, "sweep", str(sweep))[:2] for _ in range(LOOKS)]
    table_s, table_cpu_s = (statistics.median(times) for times in zip(*looks, strict=True))
    found: dict[str, object] = {
        "jobs": jobs,
        "jobs_in_slurm": len(queued),
        "submission_s": round(submission_s, 2),
        "submission_cpu_s": round(submission_cpu_s, 2),
        "table_s": round(table_s, 2),
        "table_cpu_s": round(table_cpu_s, 2),
    }
    if to_the_end:
        while slurm.run("squeue", "-h", "-o", "%i").strip():
            time.sleep(1.0)
        found["completion_s"] = round(submission_s + time.monotonic() - begun, 1)
        shown = json.loads(timed(slurm, folder, "sweep", str(sweep), "--json")[2])
        found["states"] = dict(Counter(run["state"] for run in shown["runs"]))
        found["table_at_the_end_s"] = round(timed(slurm, folder, "sweep", str(sweep))[0], 2)
    return found


def timed(slurm: Slurm, folder: Path, *words: str) -> tuple[float, float, str]:
    """Type a command; return its seconds by the clock and of processors, and what it printed."""
    start, before = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, str(RUN_PY), *words],
        cwd=folder,
        env=slurm.env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"run.py {' '.join(words)}: {done.stdout}{done.stderr}")
    elapsed_s, after = time.monotonic() - start, os.times()
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    return elapsed_s, used_s, done.stdout


if __name__ == "__main__":
    main()
