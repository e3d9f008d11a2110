"""A run directory that holds a configuration is all that a job needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_platform import config, job
from rl_platform.run_dir import RunDir

SMALL = [
    *("env=cartpole", "env.num_envs=4", "algo.rollout_steps=4", "algo.num_minibatches=1"),
    *("algo.update_epochs=1", "eval.episodes=2", "eval.num_envs=2", "video=false", "logger=files"),
]


def test_a_queued_run_is_trained_and_a_begun_one_goes_on(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "run")
    run.save_config(config.compose([*SMALL, "max_iterations=2", "total_env_steps=null"]))
    assert job.main([str(run.path)]) == 0
    assert run.read_state()["state"] == "finished"
    cfg = run.load_config()
    cfg.max_iterations = 3
    run.save_config(cfg)
    assert job.main([str(run.path)]) == 0
    assert [row["Time/iteration"] for row in run.read_metrics()] == [1, 2, 3]


def test_what_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(tmp_path / "nothing")]) == 2
    assert "there is no such run" in capsys.readouterr().err
