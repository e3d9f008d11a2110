"""A real SLURM on this machine alone, for as long as somebody holds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROGRAMS = {
    "slurm-wlm": ("slurmctld", "slurmd", "sbatch"),
    "munge": ("munged",),
    "slurmdbd": ("slurmdbd",),
    "mariadb-server": ("mariadbd",),
}
PATIENCE_S = 120.0  # for what takes a second on an idle machine


def missing() -> str:
    """Say why there can be no SLURM here; empty if there can."""
    if os.geteuid() != 0:
        return "starting a SLURM takes root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packages = [
        package
        for package, names in PROGRAMS.items()
        if not all(shutil.which(name, path=path) for name in names)
    ]
    return f"SLURM is not installed: apt-get install {' '.join(packages)}" if packages else ""


@dataclass(frozen=True)
class Slurm:
    """A running cluster: partitions `main` and `urgent`, whose jobs preempt those of `main`.

    Attributes:
        folder: all its files.
        accounting: whether there is a database of past jobs (`sacct`).
    """

    folder: Path
    accounting: bool

    @property
    def env(self) -> dict[str, str]:
        """What the environment of a process needs to find the cluster."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command of SLURM's and return what it prints.

        Raises:
            AssertionError: it failed; the message is its own.
        """
        done = subprocess.run(
            command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str, cwd: Path) -> int:
        """Hand a shell script to `sbatch`; return the job's number."""
        return int(self.run("sbatch", "--parsable", *options, f"--wrap={script}", cwd=cwd))

    def state(self, job: int | str) -> str:
        """Return the state of a job, such as PENDING, RUNNING, COMPLETED."""
        return self.run("squeue", "--states=all", "--noheader", "--format=%T", f"--jobs={job}").strip()

    def wait(self, job: int | str, *states: str) -> str:
        """Wait until a job is in one of the states, and return it."""

        def reached() -> str:
            state = self.state(job)
            return state if state in states else ""

        return wait_until(reached, f"job {job} to be {' or '.join(states)}", lambda: self.state(job))

    def pid(self, daemon: str) -> int:
        """Return the process of slurmctld, or of a node: `slurmd-node1`."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def heal(self) -> None:
        """Start again whatever has died."""
        _up(self.folder, accounting=self.accounting)


def wait_until(reached: Callable[[], str], what: str, now: Callable[[], str] = lambda: "") -> str:
    """Call `reached` until it returns something, and return that.

    Raises:
        AssertionError: it took too long; the message says for what, and what `now` says.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := reached():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_S:.0f} s for {what}: {now()}")


@contextmanager
def cluster(nodes: int = 2, accounting: bool = False) -> Iterator[Slurm]:
    """Start a SLURM and end it, with all its jobs, also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    # It waits for the end of its input, which comes when this process ends, however it does.
    keeper = subprocess.Popen(
        ["bash", "-c", f"cat; exec {FOLDER / 'slurm-down'} {folder}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    try:
        _up(folder, nodes, accounting)
        yield Slurm(folder, accounting)
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=PATIENCE_S)


def _up(folder: Path, nodes: int = 2, accounting: bool = False) -> None:
    done = subprocess.run(
        [FOLDER / "slurm-up", folder, str(nodes)],
        env=os.environ | {"ACCOUNTING": str(int(accounting))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
