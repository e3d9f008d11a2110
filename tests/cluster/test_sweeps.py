"""`launcher=slurm` on a real SLURM: sweeps, preemption, cancelling, kills. Training is real, and tiny."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cluster.place import LONG, ON_SLURM, PATIENCE_S, TINY, Place, rows, submit
from tests.cluster.slurm import wait_until
from tests.loggers.test_wandb import history, of_type, records

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_a_sweep_is_an_array_and_ends_with_its_table(place: Place) -> None:
    done = place.run_py("-m", *ON_SLURM, "max_iterations=3", "seed=1,2,3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [run.read_state()["state"] for run in place.runs()] == ["finished"] * 3
    assert "3 of 3 jobs finished" in done.stdout
    assert re.search(r"2_seed=3: finished at iteration 3 \(job \d+_2\)", done.stdout)
    assert re.search(r"\n3  +\d.* 3 finished\n", done.stdout)
    jobs = {str(run.slurm_job) for run in place.runs()}
    assert {job.partition("_")[2] for job in jobs} == {"0", "1", "2"}
    (sweep,) = place.path.glob("outputs/sweeps/*")
    assert (sweep / "code" / "rl_platform" / "train.py").exists()
    listed = place.run_py("list", "runs")
    assert all(job in listed.stdout for job in jobs)


def test_preempted_five_times_it_ends_with_the_same_weights(place: Place) -> None:
    """Bit for bit, and each step is logged once."""
    limits = ["max_iterations=1200", "save_interval=1000", "keep_checkpoints=1"]
    run = submit(place, *limits)
    for _ in range(5):
        begun = len(rows(run))
        place.wait(run, "running", lambda: len(rows(run)) > begun + 20)  # noqa: B023
        place.slurm.run("scancel", "--signal=USR2", str(run.slurm_job))
        place.wait(run, "preempted")
    place.wait(run, "finished")
    assert len(run.read_state()["resumes"]) == 5

    other = place.run_py(*TINY, *limits, "output_dir=other")
    assert other.returncode == 0, other.stderr
    (never,) = [r for r in place.runs() if "other" in r.path.parts]
    one, two = run.load_checkpoint(), never.load_checkpoint()
    same(one["algo"], two["algo"])
    assert rows(run) == rows(never) == sorted(set(rows(run)))
    events = EventAccumulator(str(run.path), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in events.Scalars("Loss/value")] == rows(run)


def same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_an_urgent_job_preempts_a_run(place: Place) -> None:
    """SLURM's own signal, then its requeueing."""
    run = submit(place, *LONG, "+launcher.sbatch={exclusive: true}")
    place.wait(run, "running", lambda: len(rows(run)) > 10)
    place.slurm.submit("sleep 3", "--partition=urgent", "--nodes=2", "--exclusive", cwd=place.path)
    place.wait(run, "preempted")
    saved = place.iteration(run)
    assert saved > 0
    place.wait(run, "running", lambda: "resumes" in run.read_state() and len(rows(run)) > saved + 10)
    assert run.read_state()["resumes"][0]["iteration"] == saved
    place.slurm.run("scancel", str(run.slurm_job))
    place.wait(run, "cancelled")
    assert rows(run) == sorted(set(rows(run)))


def test_cancelled_jobs_are_told_and_can_be_taken_up_again(place: Place) -> None:
    """One that runs saves; one that waits never had a process."""
    sweep = place.start("-m", *ON_SLURM, *LONG, "seed=1,2", "launcher.array_parallelism=1")
    wait_until(lambda: "yes" if len(place.runs()) == 2 and place.runs()[1].slurm_job else "", "two jobs")
    first, second = place.runs()
    place.wait(first, "running", lambda: len(rows(first)) > 10)
    place.slurm.run("scancel", str(second.slurm_job))
    place.slurm.run("scancel", str(first.slurm_job))
    out, _ = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 1
    assert [place.state(run) for run in (first, second)] == ["cancelled", "cancelled"]
    assert first.read_state()["state"] == "cancelled"
    assert place.iteration(first) > 0
    assert "0 of 2 jobs finished" in out
    for run in (first, second):  # so that the retry ends
        cfg = run.load_config()
        cfg.max_iterations = place.iteration(run) + 3
        run.save_config(cfg)
    (folder,) = place.path.glob("outputs/sweeps/*")
    again = place.run_py("sweep", str(folder), "--retry-failed")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 2 jobs finished" in again.stdout


@pytest.mark.parametrize("whom", ["training", "worker"])
def test_a_killed_process_goes_on_from_its_last_checkpoint(place: Place, whom: str) -> None:
    run = submit(place, *LONG)
    place.wait(run, "running", lambda: place.iteration(run) > 0)
    pid = int(run.read_state()["pid"])
    if whom == "worker":
        pid = int(re.findall(r"PPid:\t(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
    os.kill(pid, signal.SIGKILL)
    place.wait(run, "running", lambda: "resumes" in run.read_state() and len(rows(run)) > 10)
    assert run.read_state()["resumes"][0]["iteration"] > 0
    seen = rows(run)  # once: the run goes on
    assert seen == sorted(set(seen))
    place.slurm.run("scancel", str(run.slurm_job))
    place.wait(run, "cancelled")


def test_a_job_whose_every_process_is_killed_is_told_and_taken_up_again(place: Place) -> None:
    """As when it runs out of memory: nobody is left who could put it back into the queue."""
    sweep = place.start("-m", *ON_SLURM, *LONG, "seed=1")
    wait_until(lambda: "yes" if len(place.runs()) == 1 and place.runs()[0].slurm_job else "", "a job")
    (run,) = place.runs()
    place.wait(run, "running", lambda: place.iteration(run) > 0)
    for pid in of_the_same_job(int(run.read_state()["pid"])):
        os.kill(pid, signal.SIGKILL)
    out, _ = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 1
    assert place.state(run) == "killed"
    assert f"{run.path.relative_to(place.path)} killed" in out
    saved = int(run.load_checkpoint(say=pytest.fail)["iteration"])
    assert saved > 0
    cfg = run.load_config()
    cfg.max_iterations = place.iteration(run) + 300  # so that the retry ends
    run.save_config(cfg)
    (folder,) = place.path.glob("outputs/sweeps/*")
    again = place.run_py("sweep", str(folder), "--retry-failed")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 1 jobs finished" in again.stdout
    assert run.read_state()["resumes"][0]["iteration"] >= saved
    assert rows(run) == sorted(set(rows(run)))


def test_a_run_that_has_ended_is_taken_up_again_by_a_new_job(place: Place) -> None:
    """A failed one of a sweep, and any by its name; the command waits for the new job."""
    done = place.run_py("-m", *ON_SLURM, "max_iterations=2", "seed=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = place.runs()
    jobs = [run.slurm_job]
    run.update_state(state="failed", error="a NaN")
    cfg = run.load_config()
    cfg.max_iterations = 4
    run.save_config(cfg)
    (folder,) = place.path.glob("outputs/sweeps/*")
    again = place.run_py("sweep", str(folder), "--retry-failed")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 1 jobs finished" in again.stdout
    jobs.append(run.slurm_job)
    words = ["max_iterations=6", "launcher=slurm", "launcher.cpus_per_task=1"]
    resumed = place.run_py(f"resume={run.path}", *words)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    jobs.append(run.slurm_job)
    assert len(set(jobs)) == 3
    assert [resume["iteration"] for resume in run.read_state()["resumes"]] == [2, 4]
    assert rows(run) == [64 * n for n in range(1, 7)]


def of_the_same_job(pid: int) -> list[int]:
    """Every process of the SLURM job that a process belongs to: the script, the step, the training."""
    (job,) = [v for v in variables(pid) if v.startswith(b"SLURM_JOB_ID=")]
    others = [int(p.name) for p in Path("/proc").glob("[0-9]*")]
    return [other for other in others if job in variables(other)]


def variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # it has ended


def test_a_requeued_run_goes_on_in_the_same_run_of_wandb(place: Place) -> None:
    """Recorded offline: a sitting for each time it ran, one id, each step once."""
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    run = submit(place, *LONG, "logger=wandb", "logger.wandb.mode=offline")
    for n in range(2):
        begun = len(rows(run))
        place.wait(run, "running", lambda: len(rows(run)) > begun + 20)  # noqa: B023
        place.slurm.run("scancel", "--signal=USR2", str(run.slurm_job))
        place.wait(run, "running", lambda: len(run.read_state().get("resumes", [])) == n + 1)  # noqa: B023
    saved = int(run.read_state()["resumes"][-1]["iteration"])
    place.wait(run, "running", lambda: len(rows(run)) > saved)
    place.slurm.run("scancel", str(run.slurm_job))  # it ends W&B's process as well, whatever that has in hand
    place.wait(run, "cancelled")
    sittings = records(run)
    assert len(sittings) == 3
    assert len({item["run_id"] for sitting in sittings for item in of_type(sitting, "run")}) == 1
    steps = [step for sitting in sittings[:2] for _, step, _ in history(sitting, "Loss/value")]
    assert steps == rows(run)[:saved]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["launcher.partition=mian"], "did you mean launcher.partition=main?"),
        (["launcher.gpus_per_node=4"], "no node has more than 2 GPUs"),
        (["launcher.nodes=4"], "there are only 2 such nodes"),
        (["launcher.cpus_per_task=9"], "no node that has the GPUs has more than 8"),
        (
            ["launcher.mem=1T"],
            "SLURM would not take these jobs: Requested node configuration is not available",
        ),
        (["launcher.time=soon"], "must be minutes, H:MM:SS or D-HH:MM:SS"),
        (["launcher.partitoin=main"], "did you mean launcher.partition=main?"),
        (["launcher.tasks_per_node=3"], "share the environments evenly"),
    ],
)
def test_what_the_cluster_cannot_do_is_said_first(place: Place, argv: list[str], told: str) -> None:
    done = place.run_py(*ON_SLURM, *argv)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(place.path.iterdir())


def test_two_hundred_jobs_are_submitted_and_listed(place: Place) -> None:
    """Submitted only: most are cancelled while they wait."""
    done = place.run_py(
        "-m",
        *ON_SLURM,
        "max_iterations=2",
        "seed=range(200)",
        "launcher.wait=false",
        "launcher.array_parallelism=1",
    )
    assert done.returncode == 0, done.stderr
    runs = place.runs()
    assert len(runs) == 200
    place.slurm.run("scancel", str(runs[0].slurm_job).partition("_")[0])
    (folder,) = place.path.glob("outputs/sweeps/*")
    shown = json.loads(place.run_py("sweep", str(folder), "--json").stdout)
    assert len(shown["runs"]) == 200
