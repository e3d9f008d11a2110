"""Asking and telling; the study lives in its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl_platform.errors import UserError

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")

from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: E402

from rl_platform.sweepers.optuna import Config  # noqa: E402
from rl_platform.sweepers.space import Space  # noqa: E402
from rl_platform.sweepers.study import Study, final_values, intermediate_value  # noqa: E402

SPACE = Space(
    {"x": FloatDistribution(-1.0, 1.0), "kind": CategoricalDistribution(["plain", "[1,2]"])}, seeds=[]
)


def settings(**changes: Any) -> Config:
    values: dict[str, Any] = dict(
        name="optuna", n_trials=20, n_jobs=1, objective="score", direction="maximize", sampler="tpe", seed=1,
        pruner="none", startup_trials=2, warmup=0.0, reduction_factor=2, min_fraction=0.1, storage="journal",
    )  # fmt: skip
    return Config(**(values | changes))


def worth(setting: dict[str, str]) -> float:
    """Best at x = 0.3 with the list."""
    return (1.0 if setting["kind"] == "[1,2]" else 0.0) - (float(setting["x"]) - 0.3) ** 2


def search(study: Study, trials: int) -> None:
    for _ in range(trials):
        trial = study.ask()
        study.begun(trial.number, [f"{trial.number}_run"])
        study.tell(trial.number, [worth(trial.setting)])


def test_tpe_finds_a_maximum(tmp_path: Path) -> None:
    study = Study(tmp_path, settings(), SPACE)
    search(study, 30)
    (best,) = study.best()
    assert best.setting["kind"] == "[1,2]"
    assert abs(float(best.setting["x"]) - 0.3) < 0.15
    assert best.values == [pytest.approx(worth(best.setting), abs=1e-5)]
    assert best.runs == [f"{best.number}_run"]


@pytest.mark.parametrize(("storage", "parts"), [("journal", (7, 6)), ("sqlite", (2, 2))])
def test_a_study_goes_on_where_it_was(tmp_path: Path, storage: str, parts: tuple[int, ...]) -> None:
    """Interrupted or not, the same settings are tried."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    study = Study(tmp_path / "whole", settings(storage=storage), SPACE)
    search(study, sum(parts))
    for trials in parts:
        again = Study(tmp_path / "parts", settings(storage=storage), SPACE)
        search(again, trials)
    assert again.trials == study.trials
    assert len(again.trials) == sum(parts)


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_looking_at_a_study_writes_nothing(tmp_path: Path, storage: str) -> None:
    config = settings(storage=storage, pruner="median")
    assert Study(tmp_path, config, SPACE, look=True).trials == []
    assert list(tmp_path.iterdir()) == []
    study = Study(tmp_path, config, SPACE)
    for value in (1.0, 2.0, 0.5):
        number = study.ask().number
        study.report(number, [[(0.5, value)]])
        study.tell(number, [value])
    study.fail(study.ask().number, "out of memory")
    study.ask()
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    seen = Study(tmp_path, config, SPACE, look=True)
    assert seen.trials == study.trials
    assert [trial.state for trial in seen.trials] == ["finished", "finished", "pruned", "failed", "running"]
    assert seen.best() == study.best()
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_another_seed_tries_other_settings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = Study(tmp_path / "a", settings(seed=1), SPACE).ask()
    assert first.setting != Study(tmp_path / "b", settings(seed=2), SPACE).ask().setting


def test_a_setting_below_the_others_is_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path, settings(pruner="median"), SPACE)
    for value in (1.0, 2.0):
        number = study.ask().number
        assert not study.report(number, [[(0.25, value)]])
        assert not study.report(number, [[(0.25, value), (0.5, value)]])
        study.tell(number, [value])
    number = study.ask().number
    assert not study.report(number, [[(0.25, 1.5)], []])  # the second seed has not been evaluated yet
    assert study.report(number, [[(0.25, 0.5)], [(0.25, 0.4)]])
    assert study.trials[2].pruned == "below the median of the others after 25% of the training"
    study.tell(number, [9.0])
    pruned = study.trials[2]
    assert (pruned.state, pruned.values) == ("pruned", [pytest.approx(0.45)])
    assert [trial.number for trial in study.best()] == [1]


def test_a_minimum_is_pruned_the_other_way_round(tmp_path: Path) -> None:
    study = Study(tmp_path, settings(pruner="asha", direction="minimize"), SPACE)
    for value, pruned in ((1.0, False), (2.0, False), (0.5, False), (3.0, True)):
        assert study.report(study.ask().number, [[(0.5, value)]]) is pruned


@pytest.mark.parametrize("share", [1 / 9, 1 / 3])
def test_asha_compares_those_that_were_evaluated_at_a_rung(tmp_path: Path, share: float) -> None:
    """A share of the others is kept in thousandths, and 0.333 is less than a third."""
    study = Study(tmp_path, settings(pruner="asha", reduction_factor=3, min_fraction=share), SPACE)
    for value in (1.0, 2.0):
        assert not study.report(study.ask().number, [[(share, value)]])
    assert study.report(study.ask().number, [[(share, 1.5)]])
    assert not study.report(study.ask().number, [[(share, 3.0)]])


def test_the_median_rule_compares_those_that_were_evaluated_at_a_share(tmp_path: Path) -> None:
    """Kept in thousandths two thirds are 0.667: others were there at the same time, not later."""
    study = Study(tmp_path, settings(pruner="median"), SPACE)
    for _ in range(2):
        assert not study.report(study.ask().number, [[(1 / 3, 0.0), (2 / 3, 2.0), (1.0, 99.0)]])
    assert not study.report(study.ask().number, [[(2 / 3, 1.5)]])
    assert study.report(study.ask().number, [[(2 / 3, 0.5)]])
    assert not study.report(study.ask().number, [[(1 / 3, 0.5)]])


def test_a_failure_is_no_value(tmp_path: Path) -> None:
    study = Study(tmp_path, settings(), SPACE)
    study.fail(study.ask().number, "out of memory")
    study.tell(study.ask().number, [float("nan")])
    assert [(t.state, t.error) for t in study.trials] == [
        ("failed", "out of memory"),
        ("failed", "its objectives are nan"),
    ]
    assert study.best() == []


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    two = settings(objective=["score", "wall_time_s"], direction=["maximize", "minimize"])
    study = Study(tmp_path, two, SPACE)
    for values in ([0.9, 100.0], [0.5, 10.0], [0.4, 20.0], [0.9, 90.0]):
        study.tell(study.ask().number, values)
    assert sorted(trial.number for trial in study.best()) == [1, 3]
    with pytest.raises(UserError, match="other directions"):
        Study(tmp_path, settings(), SPACE)


def test_objectives_are_read_from_a_runs_files() -> None:
    evaluation = {"success_rate": 0.5, "return_mean": 3.0, "metrics/height": 0.2, "episodes": 8, "seed": 1}
    summary = {"eval": evaluation, "env_steps": 1000, "wall_time_s": 2.5}
    assert final_values(summary, ["score", "env_steps", "metrics/height"]) == [0.5, 1000.0, 0.2]
    assert final_values({"eval": {"return_mean": 3.0}}, ["score"]) == [3.0]
    with pytest.raises(UserError, match="evaluations have success_rate, return_mean, metrics/height"):
        final_values(summary, ["metrics/width"])
    row = {"env_steps": 8, "Eval/success_rate": 0.5, "Eval/height": 0.2, "Train/height": 9.0}
    assert intermediate_value(row, "score") == 0.5
    assert intermediate_value(row, "metrics/height") == 0.2
    assert intermediate_value(row, "return_mean") is None
    assert intermediate_value({"env_steps": 8}, "score") is None


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"objective": "sucess_rate"}, "objective", "did you mean success_rate?"),
        ({"objective": ["score", "score"], "direction": ["maximize"] * 2}, "objective", "each once"),
        ({"objective": ["score", "env_steps"]}, "direction", "2 objectives and 1 directions"),
        ({"pruner": "median", "objective": "wall_time_s"}, "pruner", "before a training ends"),
        (
            {"pruner": "asha", "objective": ["score", "return_std"], "direction": ["maximize", "minimize"]},
            "pruner",
            "must be none with several objectives",
        ),
        ({"n_trials": 0}, "n_trials", "at least 1"),
        ({"warmup": 1.0}, "warmup", "share of the training"),
        ({"min_fraction": 0.0}, "min_fraction", "share of the training"),
    ],
)
def test_settings_that_make_no_sense_are_told(changes: dict[str, Any], key: str, told: str) -> None:
    ((found, message),) = settings(**changes).check()
    assert found == key
    assert told in message
