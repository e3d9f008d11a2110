"""Whole trainings with `agent=sac`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import run
from rl_platform.commands import eval as eval_command
from rl_platform.run_dir import RunDir, list_runs
from tests.test_resume import differences

SHORT = [
    *(
        "env=cartpole",
        "agent=sac",
        "env.num_envs=8",
        "algo.rollout_steps=1",
        "algo.learning_starts=64",
        "algo.buffer_size=800",
    ),
    *("algo.gradient_steps=4", "algo.batch_size=32", "agent.actor.hidden_sizes=[8]", "video=false"),
    *("agent.critic.hidden_sizes=[8]", "eval.episodes=8", "eval.num_envs=8", "logger=files"),
]


@pytest.mark.slow
def test_train_resume_evaluate_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main([*SHORT, "max_iterations=40"]) == 0
    assert run.main([*SHORT, "max_iterations=20"]) == 0
    told = capfd.readouterr().out
    assert "algo     sac" in told
    assert "Mean critic loss:" in told
    assert "Learning starts after 64 environment steps with random actions" in told
    whole, parts = sorted(list_runs(Path("outputs")), key=lambda one: one.path.name)
    assert parts.path.parent == Path("outputs/cartpole/sac")
    assert run.main([f"resume={parts.path}", "max_iterations=40"]) == 0
    first, second = (one.load_checkpoint("last") for one in (whole, parts))
    for state in (first, second):
        del state["wall_s"], state["loggers"]
    assert differences(first, second) == []
    rows = RunDir.open(parts.path).read_metrics()
    assert [row["Time/iteration"] for row in rows] == list(range(1, 41))
    assert "Loss/critic" not in rows[0]  # 8 of 64 steps
    assert "Loss/critic" in rows[-1]
    capfd.readouterr()
    assert eval_command.main([str(parts.path), "--episodes", "8", "--num-envs", "8", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["episodes"] == 8
    assert run.main(["export", str(parts.path), "--format", "torchscript"]) == 0
    assert len(list((parts.path / "exported").glob("policy_*.pt"))) == 1


def test_choices_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=gymnasium", "env.id=CartPole-v1", "agent=sac", "env.num_envs=2", "env.vectorization=sync"]
    assert run.main([*words, "video=false"]) == 2
    assert "agent=sac has continuous actions only" in capsys.readouterr().err
