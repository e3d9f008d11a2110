"""The SLURM that the tests run on does what they count on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import slurm as harness
from tests.cluster.slurm import Slurm, wait_until

pytestmark = pytest.mark.cluster


def test_two_nodes_are_up(slurm: Slurm) -> None:
    assert slurm.run("sinfo", "-h", "-p", "main", "-N", "-o", "%N %G").split() == [
        "node1", "gpu:2", "node2", "gpu:2",
    ]  # fmt: skip


def test_a_step_runs_on_both_nodes_and_has_its_gpus(slurm: Slurm) -> None:
    out = slurm.run(
        "srun", "--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2", "bash", "-c",
        "echo $SLURMD_NODENAME $SLURM_PROCID $CUDA_VISIBLE_DEVICES",
    )  # fmt: skip
    assert sorted(out.splitlines()) == ["node1 0 0,1", "node1 1 0,1", "node2 2 0,1", "node2 3 0,1"]


def test_what_no_node_has_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Requested node configuration is not available"):
        slurm.submit("true", "--gpus-per-node=3", cwd=tmp_path)
    with pytest.raises(AssertionError, match="invalid partition"):
        slurm.submit("true", "--partition=mian", cwd=tmp_path)


def test_a_job_is_requeued(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit("echo again >> times; sleep $((SLURM_RESTART_COUNT ? 0 : 600))", cwd=tmp_path)
    wait_until(lambda: "yes" * (tmp_path / "times").exists(), "the job to begin")
    slurm.run("scontrol", "requeue", str(job))
    assert slurm.wait(job, "COMPLETED", "FAILED") == "COMPLETED"
    assert (tmp_path / "times").read_text() == "again\nagain\n"


def test_an_urgent_job_preempts_with_the_signal_that_was_asked_for(slurm: Slurm, tmp_path: Path) -> None:
    script = (
        "[ -z $SLURM_RESTART_COUNT ] || { echo back >> told; exit 0; }; "
        "trap 'echo usr2 >> told; scontrol requeue $SLURM_JOB_ID' USR2; "
        "echo begun >> told; for i in $(seq 6000); do sleep 0.1; done"
    )
    job = slurm.submit(script, "--nodes=2", "--exclusive", "--signal=B:USR2@60", "--time=60", cwd=tmp_path)
    wait_until(lambda: "yes" * (tmp_path / "told").exists(), "the job to begin")
    urgent = slurm.submit("true", "--partition=urgent", "--nodes=2", "--exclusive", cwd=tmp_path)
    assert slurm.wait(urgent, "COMPLETED", "FAILED") == "COMPLETED"
    assert slurm.wait(job, "COMPLETED", "FAILED") == "COMPLETED"
    assert (tmp_path / "told").read_text() == "begun\nusr2\nback\n"


def test_a_killed_node_comes_back(slurm: Slurm, tmp_path: Path) -> None:
    old = slurm.pid("slurmd-node2")
    os.kill(old, signal.SIGKILL)
    slurm.heal()
    assert slurm.pid("slurmd-node2") != old
    assert slurm.run("srun", "--nodelist=node2", "--", "bash", "-c", "echo $SLURMD_NODENAME") == "node2\n"


def test_the_accounting_remembers_jobs(accounting_slurm: Slurm, tmp_path: Path) -> None:
    job = accounting_slurm.submit("exit 3", cwd=tmp_path)
    accounting_slurm.wait(job, "FAILED")

    def remembered() -> str:
        line = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            f"--jobs={job}",
            "--format=State,ExitCode",
        ]
        text = accounting_slurm.run(*line).strip()
        return text if text.startswith("FAILED") else ""

    assert wait_until(remembered, "the database to know of the job") == "FAILED|3:0"


def test_nothing_is_left_of_a_cluster_whose_holder_is_killed(tmp_path: Path) -> None:
    """Neither daemons, nor jobs, nor what a job has let go of, nor files."""
    if reason := harness.missing():
        pytest.skip(reason)
    program = (
        "import pathlib, time\n"
        "from tests.cluster.slurm import cluster\n"
        "with cluster(nodes=1) as slurm:\n"
        "    script = 'setsid sleep 4711 & echo $$ > pid; sleep 4712'\n"
        f"    slurm.submit(script, cwd=pathlib.Path({str(tmp_path)!r}))\n"
        "    print(slurm.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=harness.FOLDER.parents[1], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        folder = holder.stdout.readline().strip()
        assert folder
        wait_until(lambda: "yes" * (tmp_path / "pid").exists(), "the job to begin")
    finally:
        holder.kill()
        holder.communicate()
    wait_until(lambda: "yes" * (not Path(folder).exists()), "the cluster's end")
    assert _processes_of(folder) == []


def _processes_of(folder: str) -> list[str]:
    """The command lines of what lives and knows of a cluster's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue  # it has ended since it was listed
        if folder.encode() in text:
            found.append(text.decode(errors="replace")[:200])
    return found
