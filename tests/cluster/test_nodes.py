"""What becomes of a run when its node, or what looks after the node, is lost."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.place import LONG, ON_SLURM, Place, rows, submit

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_a_run_outlives_the_death_of_slurmd(place: Place) -> None:
    run = submit(place, *LONG)
    place.wait(run, "running", lambda: len(rows(run)) > 10)
    node = place.slurm.run("squeue", "-h", f"--jobs={run.slurm_job}", "-o", "%N").strip()
    os.kill(place.slurm.pid(f"slurmd-{node}"), signal.SIGKILL)
    begun = len(rows(run))
    place.wait(run, "running", lambda: len(rows(run)) > begun + 10)
    place.slurm.heal()
    place.slurm.run("scancel", str(run.slurm_job))
    place.wait(run, "cancelled")
    assert "resumes" not in run.read_state()
    assert rows(run) == sorted(set(rows(run)))


def test_a_run_goes_on_when_its_node_is_lost(place: Place) -> None:
    """SLURM gives the node up and requeues its jobs; nobody asks the run to save."""
    run = submit(place, *LONG)
    place.wait(run, "running", lambda: place.iteration(run) > 0)
    node = place.slurm.run("squeue", "-h", f"--jobs={run.slurm_job}", "-o", "%N").strip()
    # With ReturnToService=2 it comes back as soon as its slurmd, which lives, reports.
    place.slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    place.wait(run, "running", lambda: "resumes" in run.read_state())
    resumed_at = int(run.read_state()["resumes"][0]["iteration"])
    assert resumed_at > 0
    place.wait(run, "running", lambda: len(rows(run)) > resumed_at + 10)
    place.slurm.run("scancel", str(run.slurm_job))
    place.wait(run, "cancelled")
    assert rows(run) == sorted(set(rows(run)))


@pytest.mark.parametrize("ranks", ["launcher.nodes=2", "launcher.tasks_per_node=2"])
def test_two_ranks_train_one_run(place: Place, ranks: str) -> None:
    """On a node each, with gloo between them, or on one node; one directory, each step once."""
    done = place.run_py(*ON_SLURM, ranks, "max_iterations=3")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = place.runs()
    assert place.state(run) == "finished"
    assert rows(run) == [64, 128, 192]
    assert "2 ranks" in run.job_log.read_text()
