"""What `benchmarks.tasks` makes of evaluations; it trains nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tasks
from benchmarks.tasks import GOALS, Evaluation, line, summarise
from rl_platform.conf_files import CONF_DIR

TIMED = {
    1: [Evaluation(3.0, 1000, 0.5), Evaluation(9.0, 2000, 0.995)],
    2: [Evaluation(4.0, 1000, 0.992), Evaluation(12.0, 2000, 0.98)],
    3: [Evaluation(4.0, 1000, 0.4), Evaluation(14.0, 2000, 0.98)],
}
RETURNS = {
    1: [Evaluation(30.0, 500_000, 500.0), Evaluation(90.0, 1_000_000, 2700.0)],
    2: [Evaluation(30.0, 500_000, 600.0), Evaluation(92.0, 1_000_000, 2000.0)],
}


def test_every_goal_is_of_a_task_with_settings_of_its_own() -> None:
    for task in GOALS:
        assert (CONF_DIR / "tuned" / f"{task}_ppo.yaml").is_file()


def test_a_success_rate_is_judged_by_the_median_time() -> None:
    numbers = summarise(GOALS["cartpole"], TIMED)
    assert numbers["first_at_target_s"] == [9.0, 4.0, None]
    assert numbers["median_s"] == 9.0
    assert numbers["met"]
    assert "after 9.0 s, 4.0 s, never" in line("cartpole", numbers)


def test_most_seeds_that_never_reach_it_miss_the_target() -> None:
    numbers = summarise(GOALS["cartpole"], {2: TIMED[3], 3: TIMED[3], 1: TIMED[1]})
    assert numbers["median_s"] is None
    assert not numbers["met"]
    assert line("cartpole", numbers).endswith("MISSED")


def test_a_return_is_judged_by_the_mean_of_the_last_evaluations() -> None:
    numbers = summarise(GOALS["hopper"], RETURNS)
    assert numbers["last_evaluation_mean"] == 2350.0
    assert not numbers["met"]
    assert line("hopper", numbers) == (
        "hopper: return 2350 (2700, 2000) after 1,000,000 steps in 90, 92 s; 2741: MISSED"
    )


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **options: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(tasks.subprocess, "run", refuse)
    run = tmp_path / "hopper" / "ppo" / "2026-11-26_10-00-00-000000_s3"
    run.mkdir(parents=True)
    with pytest.raises(AssertionError, match="it was trained"):
        tasks.train("hopper", 3, tmp_path)
    rows = [
        {"env_steps": 10, "Time/wall_s": 2.0},
        {"env_steps": 20, "Time/wall_s": 4.0, "Eval/return_mean": 7.0},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    last = {"wall_time_s": 1.5, "return_mean": 9.0}
    (run / "summary.json").write_text(json.dumps({"env_steps": 30, "wall_time_s": 6.0, "eval": last}))
    assert tasks.train("hopper", 3, tmp_path) == [Evaluation(4.0, 20, 7.0), Evaluation(7.5, 30, 9.0)]


def test_all_tasks_are_one_picture_with_its_numbers_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tasks.draw({"cartpole": TIMED, "hopper": RETURNS}, tmp_path / "tasks.png")
    assert (tmp_path / "tasks.png").stat().st_size > 1000
    rows = (tmp_path / "tasks.csv").read_text().splitlines()
    assert rows[0] == "task,seed,wall_s,env_steps,score"
    assert len(rows) == 1 + 6 + 4
    assert rows[-1] == "hopper,2,92.0,1000000,2000.0"
