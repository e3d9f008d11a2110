"""Whole trainings on several ranks, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_platform import config
from rl_platform.ranks import log_path, run_ranks
from rl_platform.run_dir import RunDir
from tests.test_resume import differences

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0  # on a very busy machine
SMALL = [
    "env=cartpole", "env.num_envs=8", "algo.rollout_steps=8", "algo.num_minibatches=2",
    "algo.update_epochs=2", "algo.normalize_reward=true", "eval.episodes=2", "eval.num_envs=2",
    "video=false", "logger=files", "agent.mixed_precision=false", "total_env_steps=null",
]  # fmt: skip


def new_run(parent: Path, name: str, *overrides: str) -> RunDir:
    run = RunDir.create(parent, name)
    run.save_config(config.compose([*SMALL, *overrides]))
    return run


def train_on(run: RunDir, ranks: int, **changes: Any) -> None:
    """Begin a run, or go on with it under other limits."""
    cfg = run.load_config()
    cfg.update(changes)
    run.save_config(cfg)
    assert run_ranks(run.path, ranks) == 0
    assert run.read_state()["state"] == "finished"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunDir]:
    """The same training on 1, 2 and 4 ranks, three iterations."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {}
    for ranks in (1, 2, 4):
        runs[ranks] = new_run(folder, str(ranks), "max_iterations=3", "save_interval=1")
        train_on(runs[ranks], ranks)
    return runs


def measured(run: RunDir) -> list[dict[str, float]]:
    """What each iteration measured, without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if not k.startswith(("Perf/", "Time/wall", "Time/iteration_s"))}
        for row in run.read_metrics()
    ]


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_sees_the_same_environments(trained: dict[int, RunDir], ranks: int) -> None:
    one, several = (trained[n].load_checkpoint(1) for n in (1, ranks))
    assert torch.equal(one["env"]["random"]["key"], several["env"]["random"]["key"])
    assert torch.equal(one["env"]["random"]["drawn"], several["env"]["random"]["drawn"])
    torch.testing.assert_close(
        one["env"]["physics"]["state"], several["env"]["physics"]["state"], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(one["algo"]["generator"], several["algo"]["generator"])


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_first_iterations_are_those_of_one_rank(trained: dict[int, RunDir], ranks: int) -> None:
    one, several = measured(trained[1]), measured(trained[ranks])
    assert len(one) == len(several) == 3
    for ours, theirs in zip(one, several, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)
    weights = [trained[n].load_checkpoint()["algo"]["model"] for n in (1, ranks)]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4), (2, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(
    trained: dict[int, RunDir], tmp_path: Path, before: int, after: int
) -> None:
    run = new_run(tmp_path, "run", "max_iterations=1")
    train_on(run, before)
    train_on(run, after, max_iterations=3)
    assert [row["Time/iteration"] for row in run.read_metrics()] == [1, 2, 3]
    last, whole = run.load_checkpoint(), trained[before].load_checkpoint()
    if before == after:
        last["loggers"] = whole["loggers"]
        assert differences(last, whole) == []
    for ours, theirs in zip(measured(run), measured(trained[before]), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)


def test_sac_on_two_ranks_is_sac_on_one(tmp_path: Path) -> None:
    """Both draw the same transitions of all environments; a checkpoint of two goes on with one."""
    sizes = ["env.num_envs=8", "algo.rollout_steps=8", "algo.gradient_steps=2", "algo.batch_size=32"]
    limits = ["algo.learning_starts=64", "algo.buffer_size=320", "max_iterations=4", "save_interval=1"]
    quiet = [
        "eval.episodes=2",
        "eval.num_envs=2",
        "video=false",
        "logger=files",
        "agent.mixed_precision=false",
    ]
    states, rows = [], []
    for ranks in (1, 2):
        one = RunDir.create(tmp_path, str(ranks))
        one.save_config(config.compose(["env=cartpole", "agent=sac", *sizes, *limits, *quiet]))
        train_on(one, ranks)
        states.append(one.load_checkpoint())
        rows.append(measured(one))
    first, second = (state["algo"]["envs"]["replay"] for state in states)
    assert first["columns"]["reward"].shape == second["columns"]["reward"].shape == (8, 32, 1)
    assert torch.equal(states[0]["algo"]["generator"], states[1]["algo"]["generator"])
    for name, columns in first["columns"].items():
        # the first rollouts, of random actions, and that which the first update led to
        torch.testing.assert_close(columns[:, :16], second["columns"][name][:, :16], rtol=1e-4, atol=1e-4)
    for key in ("Loss/critic", "Loss/q", "Loss/alpha"):
        assert rows[1][0][key] == pytest.approx(rows[0][0][key], rel=1e-3), key
    train_on(one, 1, max_iterations=6)
    assert one.load_checkpoint()["iteration"] == 6


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[tuple[RunDir, subprocess.Popen[str]]]:
    """A long training on two ranks, after its first checkpoints; nothing of it is left afterwards."""
    run = new_run(tmp_path, "run", "max_iterations=null", "save_interval=1", "keep_checkpoints=1000")
    script = f"import sys; from rl_platform.ranks import run_ranks; sys.exit(run_ranks({str(run.path)!r}, 2))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: (run.checkpoints / "model_3.pt").exists())  # the one before is last.pt by then
        yield run, process
    finally:
        process.kill()
        process.communicate()
        pids = ranks_of(run)
        until(lambda: not ranks_of(run), 60.0, fail=False)
        for pid in ranks_of(run):
            os.kill(pid, signal.SIGKILL)
        assert not [pid for pid in pids if alive(pid)] or until(lambda: not any(map(alive, pids)), 60.0)


def until(condition: Any, patience_s: float = PATIENCE_S, fail: bool = True) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            if fail:
                pytest.fail("it did not happen in time")
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ranks_of(run: RunDir) -> dict[int, int]:
    """The processes that train in a directory: process id → rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if str(run.path) not in (folder / "cmdline").read_text() or not alive(int(folder.name)):
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = [text.removeprefix(b"RANK=") for text in variables if text.startswith(b"RANK=")]
        if rank:
            found[int(folder.name)] = int(rank[0])
    return found


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_run(
    launched: tuple[RunDir, subprocess.Popen[str]], victim: int
) -> None:
    run, process = launched
    (pid,) = [pid for pid, rank in ranks_of(run).items() if rank == victim]
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert process.returncode == 128 + signal.SIGKILL
    assert f"rank {victim} was killed by SIGKILL" in printed
    assert ranks_of(run) == {}
    state = run.read_state()
    assert (state["state"], "SIGKILL" in state["error"]) == ("failed", True)
    assert run.load_checkpoint(say=pytest.fail)["iteration"] >= 2
    if victim:
        assert str(log_path(run.path, 1)) in printed


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_preempts_the_run(
    launched: tuple[RunDir, subprocess.Popen[str]], number: signal.Signals, status: int
) -> None:
    run, process = launched
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status
    state = run.read_state()
    assert state["state"] == "preempted"
    assert run.load_checkpoint()["iteration"] == state["iteration"]
    assert [row["Time/iteration"] for row in run.read_metrics()] == list(range(1, state["iteration"] + 1))


def test_a_launcher_that_is_killed_takes_its_ranks_along(
    launched: tuple[RunDir, subprocess.Popen[str]],
) -> None:
    run, process = launched
    process.kill()
    process.wait()
    until(lambda: not ranks_of(run))
    assert run.read_state()["state"] == "preempted"


def test_a_nan_on_one_rank_ends_the_run_with_its_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The task of a user whose reward is a NaN in the last environment, which is rank 1's."""
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "bad_pole.py").write_text(
        "from dataclasses import replace\n"
        "from rl_platform.tasks.cartpole import Config, TASK as GOOD\n"
        "def remember(env, state):\n"
        "    GOOD.remember(env, state)\n"
        "    if env.common_step > 20 and int(env.random._index[-1]) == 7:\n"
        "        state.pole_vel[-1] = float('nan')\n"
        "TASK = replace(GOOD, remember=remember)\n"
    )
    run = new_run(tmp_path, "run", "max_iterations=10", "save_interval=1")
    cfg = run.load_config()
    cfg.env.name = "users.bad_pole"
    run.save_config(cfg)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    assert run_ranks(run.path, 2, env={"PYTHONPATH": path}) == 1
    state = run.read_state()
    assert state["state"] == "failed"
    assert "reward term pole_vel is not finite" in state["error"]
    told = capfd.readouterr().err
    assert "reward term pole_vel is not finite" in told
    assert str(log_path(run.path, 1)) in told
    assert run.load_checkpoint()["iteration"] == 2


def run_py(*argv: str, cwd: Path, torchrun: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "run.py"), *argv]
    if torchrun is not None:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
        command = [*launcher, *command]
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def only_run(folder: Path) -> RunDir:
    (found,) = folder.rglob("run.json")
    return RunDir.open(found.parent)


def test_torchrun_makes_one_run(tmp_path: Path, trained: dict[int, RunDir]) -> None:
    done = run_py(*SMALL, "max_iterations=3", cwd=tmp_path, torchrun=2)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert run.read_state()["state"] == "finished"
    assert log_path(run.path, 1).exists()
    assert done.stdout.count("Training ended") == 1
    assert measured(run) == measured(trained[2])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_under_torchrun_is_told(tmp_path: Path, victim: int) -> None:
    """Rank 0 alone writes run.json, and cannot write its own end: whoever looks says what it is."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*SMALL, "max_iterations=null", "save_interval=1", "keep_checkpoints=1000"]
    process = subprocess.Popen(
        [*command, str(ROOT / "run.py"), *words],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: any(tmp_path.rglob("model_3.pt")))  # the one before is saved as last.pt too by then
        run = only_run(tmp_path)
        first = int(run.read_state()["pid"])
        pids = {0: first, 1: next(pid for pid in children(process.pid) if pid != first)}
        os.kill(pids[victim], signal.SIGKILL)
        process.wait(timeout=60)
    finally:
        process.terminate()  # torchrun ends its ranks
        process.wait()
    listed = run_py("list", "runs", cwd=tmp_path).stdout
    assert ("failed" if victim else "killed") in listed
    assert "running" not in listed
    assert run.load_checkpoint(say=pytest.fail)["iteration"] >= 2


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_sweep_trains_each_of_its_runs_on_several_ranks(tmp_path: Path) -> None:
    ranks = ["launcher=distributed", "launcher.num_processes=2"]
    done = run_py("-m", *SMALL, *ranks, "max_iterations=1", "seed=1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs finished" in done.stdout
    runs = [RunDir.open(path.parent) for path in sorted(tmp_path.rglob("run.json"))]
    assert [run.load_config().seed for run in runs] == [1, 2]
    assert all("2 ranks" in run.job_log.read_text() for run in runs)
    assert all(log_path(run.path, 1).exists() for run in runs)


def test_environments_of_gymnasium_are_shared_out(tmp_path: Path) -> None:
    """Each rank starts the processes of its own; together they see what one rank sees."""
    words = [*SMALL, "env=gymnasium", "env.id=CartPole-v1", "env.num_envs=4", "max_iterations=2"]
    rows = []
    for side in (["launcher=local"], ["launcher=distributed", "launcher.num_processes=2"]):
        folder = tmp_path / str(len(side))
        done = run_py(*words, *side, f"output_dir={folder}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows.append(measured(only_run(folder)))
    assert len(rows[0]) == 2
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)


def test_the_command_line_starts_ranks_and_goes_on_with_others(tmp_path: Path) -> None:
    done = run_py(
        *SMALL, "max_iterations=1", "launcher=distributed", "launcher.num_processes=2", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "2 ranks" in done.stdout
    run = only_run(tmp_path)
    done = run_py(f"resume={run.path}", "max_iterations=2", "launcher=local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(run.summary_json.read_text())["iteration"] == 2
    assert run.load_config().launcher.name == "local"


def test_a_refused_command_under_torchrun_ends_all_ranks(tmp_path: Path) -> None:
    done = run_py("env=cartpole", "env.num_envs=7", "algo.num_minibatches=1", cwd=tmp_path, torchrun=2)
    assert done.returncode != 0
    assert "write env.num_envs=6 or env.num_envs=8, or take 1 rank" in done.stderr
