"""A whole run on an environment that is not ours, as a user types it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import pytest

import run
from rl_platform import provenance
from rl_platform.run_dir import RunDir, list_runs
from tests import own_environments

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "env=gymnasium",
    "env.id=tests/Counter-v0",
    "env.import=tests.own_environments",
    "env.num_envs=2",
    "algo.rollout_steps=16",
    "algo.num_minibatches=2",
    "agent.actor.hidden_sizes=[8]",
    "eval.episodes=4",
    "eval.num_envs=2",
    "video_length=8",
]


def processes() -> list[str]:
    return [process.name for process in multiprocessing.active_children() if "Workers" in process.name]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(*more: str) -> RunDir:
    assert run.main([*SMALL, "total_env_steps=null", "max_iterations=6", *more]) == 0
    return list_runs(Path("outputs"))[-1]


def test_train_resume_eval_play(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = trained("save_interval=2")
    assert processes() == []
    assert run_dir.path.parent == Path("outputs/gymnasium_tests-Counter-v0/ppo")
    state, summary = run_dir.read_state(), json.loads(run_dir.summary_json.read_text())
    assert (state["state"], state["env"], state["iteration"]) == ("finished", "tests/Counter-v0", 6)
    assert summary["env"] == "tests/Counter-v0"
    assert 0.0 <= summary["eval"]["success_rate"] <= 1.0
    assert (run_dir.checkpoints / "last.pt").exists()
    assert (run_dir.path / "plots" / "learning_curve.png").exists()
    assert (run_dir.videos / "policy_6.mp4").stat().st_size > 0
    capsys.readouterr()

    assert run.main([f"resume={run_dir.path}", "max_iterations=8"]) == 0
    told = capsys.readouterr().out
    assert told.count("cannot be saved: all of them start new episodes") == 1
    assert run_dir.read_state()["iteration"] == 8
    rows = run_dir.read_metrics()
    assert [row["Time/iteration"] for row in rows] == list(range(1, 9))
    assert rows[-1]["env_steps"] == 8 * 32

    assert run.main(["eval", str(run_dir.path), "--json", "--episodes", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["env"], result["episodes"], result["iteration"]) == ("tests/Counter-v0", 3, 8)
    video = here / "play.mp4"
    assert run.main(["play", str(run_dir.path), "--video", str(video), "--steps", "13"]) == 0
    assert video.stat().st_size > 0
    assert "episodes ended" in capsys.readouterr().out
    assert processes() == []


def test_without_success_the_return_is_the_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # enough for a hundred episodes, before which no state counts as the best
    run_dir = trained("env.kwargs.tells_success=false", "video=false", "max_iterations=60")
    told = capsys.readouterr().out
    assert "Best mean reward while training" in told
    assert "Success rate" not in told
    assert "success_rate" not in json.loads(run_dir.summary_json.read_text())["eval"]
    assert run.main(["list", "runs"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "tests/Counter-v0" in line
    assert "%" not in line
    assert run.main(["play", str(run_dir.path), "--video", "x.mp4", "--steps", "7"]) == 0
    assert "with success" not in capsys.readouterr().out


def test_what_drawing_needs_is_told_with_the_command_to_play(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def render(_: object) -> None:
        raise gymnasium.error.DependencyNotInstalled(
            "no pygame, run `pip install gymnasium[classic-control]`"
        )

    monkeypatch.setattr(own_environments.Counter, "render", render)
    run_dir = trained("max_iterations=1")
    told = capsys.readouterr().out
    assert "no video: env.id=tests/Counter-v0 draws with a missing package: no pygame" in told
    pip, play = f"{provenance.python()} -m pip install", provenance.run("play", run_dir.path)
    assert f"Watch it        {pip} gymnasium[classic-control] && {play}\n" in told


@pytest.mark.parametrize("mistake", ["fail_at=3", "die_at=3"])
def test_a_crash_ends_the_run_with_its_name(
    here: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*SMALL, f"env.kwargs.{mistake}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("env.id=tests/Counter-v0: ")
    assert "test_gymnasium_run" not in told
    (run_dir,) = list_runs(Path("outputs"))
    assert run_dir.read_state()["state"] == "failed"
    assert "tests/Counter-v0" in run_dir.read_state()["error"]
    assert processes() == []


def test_a_nan_ends_the_run_without_promising_a_replay(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*SMALL, "env.kwargs.nan_at=3"]) == 1
    told = capsys.readouterr().err
    assert "reward of tests/Counter-v0 is not finite in environment" in told
    assert "--replay" not in told
    assert processes() == []


def test_a_request_to_stop_saves_and_leaves_no_process(here: Path) -> None:
    """SIGTERM to every process of the job, as a scheduler sends it."""
    command = [sys.executable, str(ROOT / "run.py"), *SMALL, "total_env_steps=null", "max_iterations=null"]
    pipe = subprocess.PIPE
    job = subprocess.Popen(command, cwd=here, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert job.stdout is not None
    for line in job.stdout:
        if "Learning iteration" in line:
            break
    os.killpg(job.pid, signal.SIGTERM)
    rest, errors = job.communicate(timeout=60)
    assert job.returncode == 0
    assert "Traceback" not in errors
    assert "Go on with" in rest
    (run_dir,) = list_runs(here / "outputs")
    assert run_dir.read_state()["state"] == "preempted"
    assert (run_dir.checkpoints / "last.pt").exists()
    deadline = time.monotonic() + 5
    while _group_is_alive(job.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _group_is_alive(job.pid)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
