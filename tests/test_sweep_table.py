"""Means, intervals and the best setting of a sweep; the states of its runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl_platform import sweep_table
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from rl_platform.states import state_of
from rl_platform.sweep_dir import SweepDir


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (10, 2.22814), (30, 2.04227)],
)
def test_the_quantiles_are_those_of_the_tables(freedom: int, t: float) -> None:
    assert sweep_table.t_quantile(freedom) == pytest.approx(t, rel=1e-5)


def test_an_estimate_computed_by_hand() -> None:
    """X = 1, 2, 3: mean 2, s = 1, t(2) = 4.30265, half width 4.30265/√3 = 2.48414."""
    found = sweep_table.estimate([1.0, 2.0, 3.0])
    assert (found.n, found.mean) == (3, 2.0)
    assert found.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert found.high == pytest.approx(2 + 2.48414, abs=1e-5)
    assert sweep_table.estimate([0.9, 1.0], (0.0, 1.0)).high == 1.0
    assert sweep_table.estimate([5.0]) == sweep_table.Estimate(1, 5.0, None, None)


def make(tmp_path: Path, results: list[tuple[dict[str, str], dict[str, float] | None]]) -> SweepDir:
    sweep = SweepDir.create(tmp_path / "s", {"name": "local", "parallel": 1})
    for number, (varied, result) in enumerate(results):
        run = RunDir.create(sweep.path, str(number))
        if result is not None:
            run.summary_json.write_text(json.dumps({"eval": result}))
            run.update_state(state="finished")
        sweep.add(run, varied)
    sweep.save()
    return SweepDir.open(sweep.path)


def test_seeds_are_averaged_and_the_best_setting_is_named(tmp_path: Path) -> None:
    sweep = make(
        tmp_path,
        [
            ({"algo.gamma": "0.9", "seed": "1"}, {"success_rate": 0.5, "return_mean": 9.0}),
            ({"algo.gamma": "0.9", "seed": "2"}, {"success_rate": 0.7, "return_mean": 9.0}),
            ({"algo.gamma": "0.99", "seed": "1"}, {"success_rate": 0.8, "return_mean": 1.0}),
            ({"algo.gamma": "0.99", "seed": "2"}, None),
        ],
    )
    first, second = sweep_table.settings(sweep)
    assert first.results["success_rate"].mean == pytest.approx(0.6)
    assert (second.states, second.results["success_rate"].n) == ({"finished": 1, "queued": 1}, 1)
    text = sweep_table.report(sweep).splitlines()
    assert text[0].split() == ["gamma", "n", "success", "rate", "return", "runs"]
    assert text[1].split()[:3] == ["0.9", "2", "60.0"]
    assert text[2].endswith("1 finished, 1 queued")
    assert text[3] == "In brackets: 95 % interval of the mean over the seeds"
    assert text[4] == "Best: algo.gamma=0.99  (success rate 80.0 %)"
    plain = sweep_table.as_json(sweep)
    assert [s["values"] for s in plain["best"]] == [{"algo.gamma": "0.99"}]
    assert [r["state"] for r in plain["runs"]] == ["finished"] * 3 + ["queued"]


def test_environments_are_not_compared(tmp_path: Path) -> None:
    cells = [("reach", "0.9", 1.0), ("reach", "0.99", 2.0), ("hopper", "0.9", 900.0), ("hopper", "0.99", 5.0)]
    sweep = make(
        tmp_path, [({"env": env, "algo.gamma": gamma}, {"return_mean": r}) for env, gamma, r in cells]
    )
    assert [s.values for s in sweep_table.best(sweep_table.settings(sweep))] == [
        {"env": "reach", "algo.gamma": "0.99"},
        {"env": "hopper", "algo.gamma": "0.9"},
    ]


@pytest.mark.parametrize(
    ("written", "job", "queue", "state"),
    [
        ("queued", None, None, "queued"),
        ("queued", "7_1", {"7_1": "PENDING"}, "queued"),
        ("queued", "7_1", {"7_1": "RUNNING"}, "running"),
        ("queued", "7_1", {}, "cancelled"),
        ("queued", "7_1", None, "queued"),
        ("running", None, None, "killed"),
        ("running", "7_1", {}, "killed"),
        ("running", "7_1", {"7_1": "PENDING"}, "preempted"),
        ("running", "7_1", {"7_1": "RUNNING"}, "running"),
        ("preempted", None, None, "preempted"),
        ("preempted", "7_1", {"7_1": "PENDING"}, "preempted"),
        ("preempted", "7_1", {}, "cancelled"),
        ("cancelled", "7_1", {}, "cancelled"),
        ("cancelled", "7_1", {"7_1": "PENDING"}, "preempted"),
        ("finished", "7_1", {}, "finished"),
        ("failed", "7_1", {"7_1": "COMPLETING"}, "failed"),
    ],
)
def test_a_state_is_what_the_run_and_the_queue_say_together(
    tmp_path: Path, written: str, job: str | None, queue: dict[str, str] | None, state: str
) -> None:
    run = RunDir.create(tmp_path, "a")
    run.update_state(state=written)
    run.slurm_job = job
    assert state_of(run, jobs=lambda: queue) == state


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    RunDir.create(tmp_path, "a")
    with pytest.raises(UserError, match="is a single run"):
        SweepDir.open(tmp_path / "a")
    with pytest.raises(UserError, match=r"holds no sweep\.json"):
        SweepDir.open(tmp_path)
    sweep = SweepDir.create(tmp_path / "sweeps" / "one", {})
    sweep.save()
    with pytest.raises(UserError, match=r"The last one there is .*one"):
        SweepDir.open(tmp_path / "sweeps" / "two")
    with pytest.raises(UserError, match="never overwritten"):
        SweepDir.create(tmp_path / "sweeps" / "one", {})


def test_a_key_is_told_by_its_end() -> None:
    keys = ["agent.name", "algo.gamma", "agent.actor.activation", "agent.critic.activation"]
    ends = ["agent", "gamma", "agent.actor.activation", "agent.critic.activation"]
    assert [sweep_table.short_key(key, keys) for key in keys] == ends
    assert sweep_table.short_key("agent.name", ["agent.name", "algo.name"]) == "agent"
