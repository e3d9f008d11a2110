"""What `launcher=slurm` and `launcher=submitit_local` do on any machine; tests/cluster has a real SLURM."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

import run
from launchers import cluster, generic, snapshot, submission
from launchers.pool import CODE, settle, shares
from launchers.slurm import minutes
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from tests.sweeps import PATIENCE_S, Place, said, wait_for_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_a_sweep_through_submitit_runs_the_code_of_its_start(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.tell({2: "bug"})
    assert run.main(["-m", "launcher=submitit_local", "seed=1,2"]) == 1
    done = capsys.readouterr()
    assert "1 of 2 jobs finished" in done.out
    assert "ValueError: a bug" in done.err
    code = place.sweep.path.absolute() / "code"
    assert said(place.sweep.runs[0], "code") == str(code / "rl_platform" / "__init__.py")
    assert (code / "conf" / "config.yaml").exists()
    assert not (code / ".git").exists()


def test_a_single_run_through_submitit(place: Place) -> None:
    assert run.main(["launcher=submitit_local", "seed=3"]) == 0
    (directory,) = Path("outputs/lift/ppo").iterdir()
    assert RunDir.open(directory).read_state()["state"] == "finished"
    assert (directory / "code" / "run.py").exists()


def test_a_run_is_resumed_through_submitit(place: Place) -> None:
    assert run.main(["launcher=submitit_local", "seed=3"]) == 0
    (directory,) = Path("outputs/lift/ppo").iterdir()
    argv = [f"resume={directory}", "max_iterations=9", "launcher=submitit_local"]
    assert run.main(argv) == 0
    done = RunDir.open(directory)
    assert done.read_state()["state"] == "finished"
    assert len(done.read_state()["resumes"]) == 1
    assert done.load_config().max_iterations == 9
    assert (directory / "code" / "run.py").exists()
    assert said(done, "code") == str(directory.absolute() / "code" / "rl_platform" / "__init__.py")


def test_a_signal_stops_a_sweep_through_submitit(place: Place) -> None:
    place.tell({1: "last"})
    sweep = place.start("-m", "launcher=submitit_local", "launcher.array_parallelism=1", "seed=1,2")
    wait_for_state(place, 0, "running")
    sweep.send_signal(signal.SIGINT)
    out, err = sweep.communicate(timeout=PATIENCE_S)
    assert (sweep.returncode, place.states()) == (130, ["preempted", "queued"]), out + err
    assert "--continue" in out


def test_without_slurm_that_is_said_first(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(place.path))
    assert run.main(["-m", "launcher=slurm", "seed=1,2"]) == 2
    assert "there is no sbatch on this machine" in capsys.readouterr().err
    assert list(place.path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["device=cuda"], "write launcher.gpus_per_node=1"),
        (["launcher.tasks_per_node=3"], "share the environments evenly"),
        (["launcher.time=soon"], "launcher.time: must be minutes"),
        (["launcher.time=1"], "must be more than signal_delay_s"),
        (["launcher.partitoin=x"], "did you mean launcher.partition=x?"),
        (["launcher.nodes=0"], "launcher.nodes: must be at least 1"),
    ],
)
def test_mistakes_about_slurm_are_told(
    place: Place, capsys: pytest.CaptureFixture[str], overrides: list[str], told: str
) -> None:
    assert run.main(["launcher=slurm", *overrides]) == 2
    assert told in capsys.readouterr().err
    assert list(place.path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("1:30", 2),
        ("2:00:00", 120),
        ("1-0", 1440),
        ("1-02:03:04", 1564),
        ("0", None),
        ("x", None),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, value: int | None) -> None:
    assert minutes(text) == value


NODES = cluster.parse("cpu|10|(null)|64\ngpu|2|gpu:a100:4(S:0-1)|32\ngpu|1|gpu:2,shard:8|128+\n")


def test_what_sinfo_prints_is_read() -> None:
    assert [(n.partition, n.count, n.gpus, n.cpus) for n in NODES] == [
        ("cpu", 10, 0, 64),
        ("gpu", 2, 4, 32),
        ("gpu", 1, 2, 128),
    ]


@pytest.mark.parametrize(
    ("partition", "nodes", "gpus", "tasks", "cpus", "told"),
    [
        ("gpus", 1, 0, 1, 1, "did you mean launcher.partition=gpu?"),
        ("cpu", 1, 1, 1, 1, "no node of partition cpu has more than 0 GPUs"),
        (None, 1, 5, 1, 1, "no node has more than 4 GPUs"),
        ("gpu", 3, 4, 4, 1, "there are only 2 such nodes in partition gpu"),
        ("gpu", 1, 4, 4, 10, "with 4 tasks that is 40 processors"),
        ("cpu,gpu", 11, 0, 1, 1, "there are only 10 such nodes"),
        ("gpu", 2, 4, 4, 8, ""),
        (None, 10, 0, 1, 64, ""),
    ],
)
def test_what_no_node_can_do_is_refused(
    partition: str | None, nodes: int, gpus: int, tasks: int, cpus: int, told: str
) -> None:
    if not told:
        cluster.check(NODES, partition, nodes, gpus, tasks, cpus)
        return
    with pytest.raises(UserError) as caught:
        cluster.check(NODES, partition, nodes, gpus, tasks, cpus)
    assert told in str(caught.value)


def test_the_code_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git ignores, and what runs have written, is left out."""
    code = tmp_path / "clone"
    for name in ("rl_platform/__init__.py", "conf/a.yaml", "new.py", "data.bin", "results/run/model.pt"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / ".gitignore").write_text("*.bin\n")
    subprocess.run(["git", "init", "-q"], cwd=code, check=True)
    subprocess.run(["git", "add", "rl_platform", "conf"], cwd=code, check=True)
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=code,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    monkeypatch.setattr(snapshot, "CODE", code)
    monkeypatch.setattr(snapshot.provenance, "files", lambda: names)
    monkeypatch.chdir(code)
    kept = snapshot.take(tmp_path, Path("results"))
    (code / "new.py").write_text("edited")
    assert snapshot.take(tmp_path, Path("results")) == kept
    found = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert found == {"rl_platform/__init__.py", "conf/a.yaml", "new.py", ".gitignore"}
    assert (kept / "new.py").read_text() == "new.py"


def test_git_knows_the_files_of_this_clone() -> None:
    names = snapshot._files()
    assert {"run.py", "conf/config.yaml", "launchers/snapshot.py"} <= set(names)
    assert not any(name.startswith((".git/", ".venv/", "outputs/")) for name in names)
    assert all((CODE / name).is_file() for name in names)


def test_a_job_finds_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [RunDir.create(tmp_path, name) for name in ("a", "b")]
    folder = submission.new_folder(tmp_path)
    submission.write_jobs(folder, runs)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert submission.run_of_this_job(folder) == tmp_path / "a"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert submission.run_of_this_job(folder) == tmp_path / "b"
    assert submission.new_folder(tmp_path) != folder


@pytest.mark.parametrize(
    ("before", "status", "after", "error"),
    [
        ("queued", 1, "failed", "no such module (exit status 1 before the training began; more in job.log)"),
        ("queued", -signal.SIGTERM, "queued", None),
        ("queued", 130, "queued", None),
        (
            "queued",
            -signal.SIGKILL,
            "failed",
            "no such module (killed by SIGKILL before the training began; more in job.log)",
        ),
        ("running", -signal.SIGTERM, "preempted", None),
        ("running", -signal.SIGKILL, "running", "killed by SIGKILL"),
        ("running", 1, "failed", "no such module (exit status 1; more in job.log)"),
        ("preempted", 0, "preempted", None),
        ("preempted", 130, "preempted", None),
        ("preempted", -signal.SIGTERM, "preempted", None),
        (
            "preempted",
            1,
            "failed",
            "no such module (exit status 1 before the training began; more in job.log)",
        ),
        ("finished", 0, "finished", None),
    ],
)
def test_what_a_job_could_not_say_is_written_down(
    tmp_path: Path, before: str, status: int, after: str, error: str | None
) -> None:
    job = RunDir.create(tmp_path, "a")
    job.update_state(state=before)
    job.job_log.write_text("Traceback\nno such module\n")
    settle(job, status, since=job.read_state()["updated"])
    assert (job.read_state()["state"], job.read_state().get("error")) == (after, error)


def test_a_job_that_has_saved_may_go_on_whatever_its_exit_status(tmp_path: Path) -> None:
    job = RunDir.create(tmp_path, "a")
    since = job.read_state()["updated"]
    job.begin()
    job.update_state(state="preempted")
    settle(job, 1, since)
    assert job.read_state()["state"] == "preempted"


@pytest.mark.parametrize(
    ("name", "given", "slots"),
    [
        ("local", {"parallel": 3}, 3),
        ("distributed", {}, 1),
        ("submitit_local", {"array_parallelism": 3}, 3),
        ("slurm", {"array_parallelism": 3}, 3),
    ],
)
def test_a_launcher_knows_how_many_jobs_it_runs_at_a_time(
    name: str, given: dict[str, int], slots: int
) -> None:
    module = importlib.import_module(f"launchers.{name}")
    assert module.Launcher(generic.settings(name, given)).slots == slots


def test_processors_are_shared_out() -> None:
    mine = os.sched_getaffinity(0)
    for parts in (1, 2, 3, 7):
        found = shares(parts)
        assert len(found) == parts
        assert set().union(*found) == mine
        assert all(share and share <= mine for share in found)
