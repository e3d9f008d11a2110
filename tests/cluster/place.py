"""Where the tests here type their commands, and the runs that come of them: real trainings, and tiny."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rl_platform.run_dir import RunDir
from rl_platform.states import state_of
from tests.cluster.slurm import Slurm, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = [
    *("env=cartpole", "~tuned", "env.num_envs=8", "algo.rollout_steps=8", "algo.num_minibatches=1"),
    *("algo.update_epochs=1", "eval.episodes=4", "eval.num_envs=4", "video=false", "num_threads=1"),
]
ON_SLURM = [*TINY, "launcher=slurm", "launcher.cpus_per_task=1", "launcher.signal_delay_s=30"]
LONG = ["max_iterations=1000000", "save_interval=200"]
PATIENCE_S = 400


class Place:
    """A directory in which commands are typed on the cluster's login node."""

    def __init__(self, slurm: Slurm, path: Path) -> None:
        self.slurm, self.path = slurm, path

    def run_py(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run.py"), *argv]
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.slurm.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def start(self, *argv: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "run.py"), *argv]
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.slurm.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def runs(self) -> list[RunDir]:
        # rglob fails where a directory goes while it looks, as a snapshot of the code does that is then whole
        found = (Path(folder) for folder, _, files in os.walk(self.path) if "run.json" in files)
        return [RunDir(path) for path in sorted(found)]

    def state(self, run: RunDir) -> str:
        """What anybody is told of it."""

        def jobs() -> dict[str, str]:
            lines = self.slurm.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
            return dict(line.split() for line in lines)

        return state_of(run, jobs=jobs)

    def wait(self, run: RunDir, state: str, also: Callable[[], bool] = lambda: True) -> None:
        wait_until(
            lambda: "yes" if self.state(run) == state and also() else "",
            f"{run.path} to be {state}",
            lambda: self.state(run),
        )

    def iteration(self, run: RunDir) -> int:
        return int(run.read_state().get("iteration") or 0)


def submit(place: Place, *argv: str) -> RunDir:
    """Submit a single run and return at once."""
    done = place.run_py(*ON_SLURM, "launcher.wait=false", *argv)
    assert done.returncode == 0, done.stderr
    (run,) = place.runs()
    return run


def rows(run: RunDir) -> list[int]:
    return [int(row["env_steps"]) for row in run.read_metrics()]
