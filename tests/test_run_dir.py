from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from rl_platform import atomic, checkpoint, provenance
from rl_platform.commands.arguments import open_run
from rl_platform.errors import UserError
from rl_platform.run_dir import CheckpointError, RunDir, list_runs
from rl_platform.states import state_of


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "lift" / "ppo", "first")
    run.save_config(OmegaConf.create({"seed": 7, "keep_checkpoints": 2, "twice": "${seed}"}))
    return run


def payload(value: float) -> dict[str, Any]:
    return {"iteration": int(value), "weights": torch.full((1000,), float(value))}


def names(run: RunDir) -> list[str]:
    return sorted(os.listdir(run.checkpoints))


def spoil(path: Path, at: int = 300) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# The directory and run.json


def test_new_run_is_queued_and_says_where_it_comes_from(run: RunDir) -> None:
    state = run.read_state()
    assert state["state"] == "queued"
    assert state["pid"] == os.getpid()
    assert state["versions"]["python"] and state["versions"]["torch"] and state["versions"]["mujoco"]
    assert state["host"] and state["cpu"] and state["argv"] == sys.argv


def test_a_run_is_never_overwritten(run: RunDir) -> None:
    with pytest.raises(UserError, match="exists already"):
        RunDir.create(run.path.parent, run.path.name)
    assert run.read_state()["state"] == "queued"


def test_update_state_keeps_the_other_fields_and_leaves_no_temporary_file(run: RunDir) -> None:
    before = run.read_state()
    run.update_state(iteration=3, env_steps=300)
    after = run.read_state()
    assert (after["iteration"], after["env_steps"], after["created"]) == (3, 300, before["created"])
    assert after["updated"] > before["updated"]
    assert not list(run.path.glob(".*.tmp"))


def test_a_failed_write_leaves_the_old_state(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space"):
        run.update_state(state="finished")
    monkeypatch.undo()
    assert run.read_state()["state"] == "queued"
    assert not list(run.path.glob(".*.tmp"))


def test_config_is_saved_resolved(run: RunDir) -> None:
    assert "${" not in run.config_yaml.read_text()
    assert run.load_config().twice == 7


def test_open_takes_a_run_or_a_checkpoint_and_explains_anything_else(run: RunDir) -> None:
    run.save_checkpoint(payload(1), 1)
    run.save_checkpoint(payload(2), 2)
    assert RunDir.open(run.path).load_checkpoint()["iteration"] == 2
    opened = RunDir.open(run.checkpoints / "model_1.pt")
    assert opened.path == run.path
    assert opened.load_checkpoint()["iteration"] == 1
    with pytest.raises(UserError, match="no such run"):
        RunDir.open(run.path / "nothing")
    with pytest.raises(UserError, match=r"holds 1 runs.*first"):
        RunDir.open(run.path.parent)
    with pytest.raises(UserError, match="not a run"):
        RunDir.open(run.checkpoints)


def test_a_damaged_state_is_named(run: RunDir) -> None:
    run.run_json.write_text("{")
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        run.read_state()


def test_begin_marks_the_run_and_lets_nobody_else_train_in_it(run: RunDir) -> None:
    assert not run.is_live()
    run.begin()
    assert run.read_state()["state"] == "running"
    other = RunDir.open(run.path)
    assert other.is_live()
    with pytest.raises(UserError, match="being trained"):
        other.begin()
    run.update_state(state="preempted", iteration=5)
    assert not other.is_live()
    other.begin()
    state = other.read_state()
    assert state["state"] == "running"
    assert [resume["iteration"] for resume in state["resumes"]] == [5]


def test_a_run_is_seen_to_live_on_nfs_and_without_locks(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS gives an exclusive lock only to who may write (man 2 flock); some disks have no locks at all."""
    flock = fcntl.flock

    def nfs(file: Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    def none(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    run.begin()
    other = RunDir.open(run.path)
    for system in (nfs, none):
        monkeypatch.setattr(fcntl, "flock", system)
        assert other.is_live()
        assert state_of(other) == "running"
    run.update_state(pid=2**22 + 1)  # above Linux's largest
    assert not other.is_live()


def test_a_run_that_one_may_only_read_is_refused(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="cannot be written to: Permission denied"):
        run.begin()


def test_a_killed_run_is_not_live_and_can_be_resumed(run: RunDir) -> None:
    script = (
        "import os, signal, sys; from rl_platform.run_dir import RunDir\n"
        "RunDir.open(sys.argv[1]).begin(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, run.path], check=False)
    assert run.read_state()["state"] == "running"
    assert not run.is_live()
    run.begin()


def test_a_run_that_is_started_again_waits(tmp_path: Path) -> None:
    """One that never began stays as it was made."""
    run = RunDir.create(tmp_path, "run")
    run.slurm_job = "7"
    run.wait_again()
    assert (run.read_state()["state"], run.slurm_job) == ("queued", None)
    run.begin()
    run.update_state(state="failed", error="a NaN")
    run.wait_again()
    assert (run.read_state()["state"], run.read_state()["error"]) == ("preempted", None)


# Where the code came from


@pytest.fixture
def fresh() -> Iterator[None]:
    caches = (provenance.commit, provenance.diff, provenance._is_ours)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> Path:
    """A repository that has our package, with one commit."""
    root = tmp_path / "code"
    (root / "rl_platform").mkdir(parents=True)
    (root / "rl_platform" / "__init__.py").write_text("one = 1\n")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Start"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "_ROOT", root)
    return root


def test_a_clean_tree_leaves_its_commit_and_no_diff(repository: Path, tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    git = run.read_state()["git"]
    assert len(git["commit"]) == 40 and git["dirty"] is False
    assert not (run.path / "git.diff").exists()


def test_a_dirty_tree_leaves_its_diff(repository: Path, tmp_path: Path) -> None:
    (repository / "rl_platform" / "__init__.py").write_text("one = 2\n")
    (repository / "new.py").write_text("")
    run = RunDir.create(tmp_path, "run")
    assert run.read_state()["git"]["dirty"] is True
    diff = (run.path / "git.diff").read_text()
    assert "+one = 2" in diff and "not in git: new.py" in diff


def test_a_repository_that_only_surrounds_the_code_is_not_its_source(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = repository / "venv"
    installed.mkdir()
    monkeypatch.setattr(provenance, "_ROOT", installed)
    assert RunDir.create(tmp_path, "run").read_state()["git"] is None


def test_git_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert RunDir.create(tmp_path, "run").read_state()["git"] is None


def test_python_is_named_so_that_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for venv in ("mine", "other"):
        (tmp_path / venv).mkdir()
        (tmp_path / venv / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "mine" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "mine"))
    assert provenance.python() == "python"
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert provenance.python() == str(tmp_path / "mine" / "python")
    monkeypatch.chdir(tmp_path)
    assert provenance.python() == "mine/python"


# Listing


def test_runs_are_found_at_any_depth_oldest_first(tmp_path: Path) -> None:
    late = RunDir.create(tmp_path / "a", "run")
    early = RunDir.create(tmp_path / "b" / "c" / "d", "run")
    nested = RunDir.create(early.videos, "inside")
    early._write_state(early.read_state() | {"created": "2000"})
    assert [run.path for run in list_runs(tmp_path)] == [early.path, late.path]
    assert list_runs(nested.path)[0].path == nested.path
    assert list_runs(tmp_path / "nothing") == []


def test_listing_is_fast_and_needs_no_torch(tmp_path: Path) -> None:
    for index in range(200):
        run = RunDir(tmp_path / "lift" / "ppo" / str(index))
        run.checkpoints.mkdir(parents=True)
        run.run_json.write_text(json.dumps({"state": "finished", "created": str(index)}))
    script = (
        "import sys, time; from rl_platform.run_dir import list_runs\n"
        "start = time.perf_counter(); runs = list_runs(sys.argv[1])\n"
        "states = [run.read_state() for run in runs]\n"
        "print(time.perf_counter() - start, len(states), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    seconds, count, torch_imported = done.stdout.split()
    assert (count, torch_imported) == ("200", "False")
    assert float(seconds) < 0.3


# Checkpoints


def test_what_is_saved_comes_back(run: RunDir) -> None:
    saved = payload(3) | {"rng": random.getstate(), "generator": torch.get_rng_state(), "none": None}
    path = run.save_checkpoint(saved, 3)
    assert path == run.checkpoints / "model_3.pt"
    for which in ("last", 3, "3", path):
        loaded = run.load_checkpoint(which)
        assert torch.equal(loaded["weights"], saved["weights"])
        assert loaded["rng"] == saved["rng"]
    random.setstate(loaded["rng"])


def test_a_checkpoint_is_an_ordinary_torch_file(run: RunDir) -> None:
    path = run.save_checkpoint(payload(3), 3)
    assert torch.load(path, weights_only=True)["iteration"] == 3


def test_last_is_a_second_name_and_old_numbers_go(run: RunDir) -> None:
    for iteration in (10, 20, 30):
        run.save_checkpoint(payload(iteration), iteration)
    assert names(run) == ["last.pt", "model_20.pt", "model_30.pt"]
    assert (run.checkpoints / "last.pt").samefile(run.checkpoints / "model_30.pt")


def test_all_numbered_checkpoints_stay_if_asked_for(run: RunDir) -> None:
    run.save_config(OmegaConf.create({"keep_checkpoints": None}))
    for iteration in range(1, 6):
        run.save_checkpoint(payload(iteration), iteration)
    assert names(run) == ["last.pt", *(f"model_{n}.pt" for n in range(1, 6))]


def test_saving_the_same_iteration_twice_is_harmless(run: RunDir) -> None:
    run.save_checkpoint(payload(1), 1)
    run.save_checkpoint(payload(2), 1)
    assert run.load_checkpoint("last")["iteration"] == 2
    assert names(run) == ["last.pt", "model_1.pt"]


def test_the_best_stands_apart(run: RunDir) -> None:
    run.save_checkpoint(payload(10), 10)
    assert run.save_checkpoint(payload(8), 8, best=True).name == "best.pt"
    assert run.load_checkpoint("last")["iteration"] == 10
    assert run.load_checkpoint("best")["iteration"] == 8
    assert names(run) == ["best.pt", "last.pt", "model_10.pt"]


def test_a_resume_from_an_earlier_one_discards_the_later(run: RunDir) -> None:
    for iteration in (10, 20):
        run.save_checkpoint(payload(iteration), iteration)
    run.save_checkpoint(payload(15), 15)
    assert names(run) == ["last.pt", "model_10.pt", "model_15.pt"]
    assert run.load_checkpoint("last")["iteration"] == 15


def test_without_hard_links_last_is_a_copy(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run.save_checkpoint(payload(1), 1)
    run.save_checkpoint(payload(2), 2)
    assert run.load_checkpoint("last")["iteration"] == 2
    assert not (run.checkpoints / "last.pt").samefile(run.checkpoints / "model_2.pt")
    assert names(run) == ["last.pt", "model_1.pt", "model_2.pt"]


def test_what_could_not_be_loaded_is_refused_at_the_first_save(run: RunDir) -> None:
    with pytest.raises(TypeError, match="plain Python values"):
        run.save_checkpoint({"path": Path("a")}, 1)
    assert names(run) == []


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_a_damaged_last_is_named_and_the_one_before_is_used(run: RunDir, damage: str) -> None:
    run.save_checkpoint(payload(1), 1)
    path = run.save_checkpoint(payload(2), 2)
    data = path.read_bytes()
    if damage == "bit":
        spoil(path, len(data) // 2)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    said: list[str] = []
    assert run.load_checkpoint("last", say=said.append)["iteration"] == 1
    assert len(said) == 1
    assert "last.pt is damaged" in said[0] and "Using the one before" in said[0] and "model_1.pt" in said[0]


def test_every_single_bit_counts(run: RunDir) -> None:
    path = run.save_checkpoint(payload(1), 1)
    data = path.read_bytes()
    for at in random.Random(0).sample(range(len(data)), 200):
        wrong = bytearray(data)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(ValueError, match=r"checksum|end"):
            checkpoint.decode(bytes(wrong))


def test_the_best_is_the_last_resort(run: RunDir) -> None:
    run.save_checkpoint(payload(1), 1, best=True)
    spoil(run.save_checkpoint(payload(2), 2))
    assert run.load_checkpoint("last", say=lambda _: None)["iteration"] == 1
    spoil(run.checkpoints / "best.pt")
    with pytest.raises(CheckpointError, match="No checkpoint of this run is whole"):
        run.load_checkpoint("last")


def test_what_was_asked_for_by_name_is_not_replaced(run: RunDir) -> None:
    run.save_checkpoint(payload(1), 1)
    spoil(run.save_checkpoint(payload(2), 2))
    with pytest.raises(CheckpointError, match=r"model_2\.pt is damaged: .*This run has last, 1, 2\."):
        run.load_checkpoint(2)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*model_9\.pt"):
        run.load_checkpoint(9)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*best\.pt"):
        run.load_checkpoint("best")


def test_a_run_without_checkpoints_says_so(run: RunDir) -> None:
    with pytest.raises(CheckpointError, match="ended before its first save"):
        run.load_checkpoint("last")


def test_leftovers_go_with_the_next_writer(run: RunDir) -> None:
    leftover = run.checkpoints / ".model_1.pt.99.tmp"
    leftover.write_bytes(b"half")
    assert RunDir.open(run.path).path == run.path
    assert leftover.exists()  # a reader does not know whether its writer lives
    RunDir.open(run.path).save_checkpoint(payload(1), 1)
    assert not leftover.exists()


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_everything_as_it_was(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    run.save_checkpoint(payload(1), 1)
    before = {name: (run.checkpoints / name).read_bytes() for name in names(run)}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "write":
        monkeypatch.setattr(atomic, "open", full, raising=False)
    else:
        monkeypatch.setattr(os, failing, full)
    for best in (False, True):
        with pytest.raises(CheckpointError, match=r"needs 0\.0 MB, and the disk has [\d.]+ MB left"):
            run.save_checkpoint(payload(2), 2, best=best)
    monkeypatch.undo()
    assert {name: (run.checkpoints / name).read_bytes() for name in names(run)} == before
    run.save_checkpoint(payload(3), 3)
    assert run.load_checkpoint("last")["iteration"] == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_is_full_leaves_everything_as_it_was(small_disk: Path) -> None:
    run = RunDir.create(small_disk, "run")
    run.save_config(OmegaConf.create({"keep_checkpoints": 2}))
    weights = torch.randn(200_000)  # 0.8 MB: two fit, a third does not
    run.save_checkpoint({"iteration": 1, "weights": weights}, 1)
    run.save_checkpoint({"iteration": 2, "weights": weights}, 2)
    with pytest.raises(CheckpointError, match=r"model_3\.pt could not be written: it needs 0\.8 MB"):
        run.save_checkpoint({"iteration": 3, "weights": weights}, 3)
    assert names(run) == ["last.pt", "model_1.pt", "model_2.pt"]
    assert torch.equal(run.load_checkpoint("last")["weights"], weights)
    (run.checkpoints / "model_1.pt").unlink()
    run.save_checkpoint({"iteration": 3, "weights": weights}, 3)
    assert run.load_checkpoint("last")["iteration"] == 3


def save_until_killed(path: Path, iteration: int, report: Connection) -> None:
    run, weights = RunDir.open(path), torch.zeros(300_000)
    while True:
        iteration += 1
        run.save_checkpoint({"iteration": iteration, "weights": weights}, iteration)
        run.save_checkpoint({"iteration": iteration}, iteration, best=True)
        run.update_state(iteration=iteration)
        report.send(iteration)


def test_kill_9_at_any_moment_leaves_a_whole_last(run: RunDir) -> None:
    # A server without threads forks the savers: a new interpreter each would take seconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    rng, done, cut_short = random.Random(0), 0, 0
    for _ in range(60):
        reader, writer = processes.Pipe(duplex=False)
        saver = processes.Process(target=save_until_killed, args=(run.path, done, writer))
        saver.start()
        writer.close()
        reached = reader.recv()
        time.sleep(rng.uniform(0, 0.03))
        saver.kill()
        saver.join()
        with contextlib.suppress(EOFError):
            while True:
                reached = reader.recv()
        said: list[str] = []
        done = run.load_checkpoint("last", say=said.append)["iteration"]
        assert not said
        assert done in (reached, reached + 1)
        assert run.load_checkpoint("best")["iteration"] in (reached, reached + 1)
        assert run.read_state()["iteration"] in (reached, reached + 1)
        cut_short += bool(list(run.checkpoints.glob(".*.tmp")))
    assert cut_short  # else no kill came in the middle of a save
    run.save_checkpoint(payload(done + 1), done + 1)
    assert not list(run.checkpoints.glob(".*.tmp"))


def test_a_request_to_stop_is_taken_once(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    assert run.take_stop_request() is None
    RunDir.open(run.path).request_stop("pruned: below the median")
    assert run.take_stop_request() == "pruned: below the median"
    assert run.take_stop_request() is None


@pytest.mark.parametrize(
    ("state", "kept"), [("finished", False), ("failed", False), ("cancelled", False), ("preempted", True)]
)
def test_a_request_to_stop_ends_with_its_run(tmp_path: Path, state: str, kept: bool) -> None:
    """Whoever resumes a run that has ended was not meant; a preempted one goes back into the queue."""
    run = RunDir.create(tmp_path, "run")
    run.begin()
    run.request_stop("pruned: below the median")
    run.update_state(iteration=3)
    run.update_state(state=state)
    assert (run.take_stop_request() is not None) == kept


def test_a_folder_of_runs_means_its_newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = RunDir.create(tmp_path / "lift", "b")
    assert open_run(tmp_path).path == first.path
    assert capsys.readouterr().err == "", "there is no choice"
    newest = RunDir.create(tmp_path / "lift", "a")
    assert open_run(str(tmp_path)).path == newest.path
    assert capsys.readouterr().err == f"{tmp_path} holds 2 runs; the newest is {newest.path}\n"
    assert open_run(first.path).path == first.path
    with pytest.raises(UserError, match="there is no such run"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not a run"):
        open_run(tmp_path / "empty")
