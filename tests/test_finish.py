from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from rl_platform import finish, provenance
from rl_platform.config import compose
from rl_platform.envs import render
from rl_platform.finish import next_commands
from rl_platform.review import Reviewer
from rl_platform.run_dir import RunDir
from rl_platform.signals import Interrupted, StopSignal
from rl_platform.trainer import Outcome


@pytest.mark.parametrize(
    ("limits", "further"),
    [
        ({"max_iterations": 50, "total_env_steps": None}, " max_iterations=100"),
        ({"max_iterations": None, "total_env_steps": 4000}, " total_env_steps=8000"),
        ({"max_iterations": 50, "total_env_steps": 4000}, " max_iterations=100 total_env_steps=8000"),
        ({"max_iterations": None, "total_env_steps": 9000}, ""),  # it was stopped by something else
    ],
)
def test_training_on_raises_the_limits_that_were_reached(
    tmp_path: Path, limits: dict[str, int | None], further: str
) -> None:
    run = RunDir.create(tmp_path, "run")
    cfg = OmegaConf.create({**limits, "logger": {}})
    lines = next_commands(cfg, run, Outcome("", 50, 4000, 1.0)).splitlines()
    (resume,) = (line for line in lines if line.startswith("Train it on"))
    assert resume.endswith(f"{provenance.python()} run.py resume={run.path}{further}")


def test_training_on_takes_away_a_score_that_was_reached(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    cfg = OmegaConf.create({"max_iterations": 50, "total_env_steps": None, "logger": {}})
    lines = next_commands(cfg, run, Outcome("score_to_win=20 reached: mean return 21", 7, 99, 1.0))
    assert f"resume={run.path} score_to_win=null" in lines


def test_a_stop_while_the_video_is_drawn_leaves_a_finished_training(tmp_path: Path) -> None:
    class Stopped:
        def record(self, policy: object, iteration: int) -> None:
            raise Interrupted("SIGINT")

    said: list[str] = []
    console: Any = SimpleNamespace(message=said.append)
    stopped, nothing = cast("Any", Stopped()), cast("Any", None)
    finish._video(stopped, nothing, Outcome("", 1, 10, 1.0), nothing, console)
    assert said == ["The training is finished; only its video was cut short."]


def test_tensorboard_is_offered_where_it_was_written(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    cfg = OmegaConf.create({"max_iterations": 1, "total_env_steps": None, "logger": {"tensorboard": {}}})
    last = next_commands(cfg, run, Outcome("", 1, 10, 1.0)).splitlines()[-1]
    assert last.endswith(f"{provenance.python()} -m tensorboard.main --logdir {run.path}")


def test_what_play_needs_is_installed_before_it(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    cfg = OmegaConf.create({"max_iterations": 1, "total_env_steps": None, "logger": {}})
    first = next_commands(cfg, run, Outcome("", 1, 10, 1.0), ["swig", '"gymnasium[box2d]"']).splitlines()[0]
    pip = f"{provenance.python()} -m pip install"
    watch = f'{pip} swig && {pip} "gymnasium[box2d]" && {provenance.run("play", run.path)}'
    assert first == f"Watch it        {watch}"


def test_a_video_is_drawn_once_for_an_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(["env=cartpole", "num_threads=1"])
    drawn: list[Path] = []

    def record_video(path: Path, frames: object, fps: float) -> Path:
        drawn.append(path)
        return path

    monkeypatch.setattr(render, "record_video", record_video)
    said: list[str] = []
    reviewer = Reviewer(cfg, RunDir.create(tmp_path, "run", cfg), StopSignal(), said.append)
    policy: Any = None
    with contextlib.closing(reviewer):
        paths = [reviewer.record(policy, iteration) for iteration in (5, 5, 6)]
    assert [path.name for path in drawn] == ["policy_5.mp4", "policy_6.mp4"]
    assert paths == [drawn[0], *drawn]
    assert said == ["Drawing a video of the policy …"] * 2
