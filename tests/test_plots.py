from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_platform import plots
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path, "run")
    run.update_state(env="lift", agent="ppo", seed=42)
    return run


def write(run: RunDir, rows: list[dict[str, Any]]) -> None:
    run.metrics_jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(step: int, **metrics: Any) -> dict[str, Any]:
    return {"env_steps": step, "Time/wall_s": step / 100, "Loss/value": 1.0} | metrics


def trained(steps: int, success: float) -> dict[str, Any]:
    done = {"Train/success_rate": success, "Train/mean_reward": 10 * success, "Train/episodes": 8.0}
    return row(steps, **done)


def table(run: RunDir) -> list[dict[str, str]]:
    return list(csv.DictReader((run.plots / "learning_curve.csv").read_text().splitlines()))


def test_picture_and_its_numbers_side_by_side(run: RunDir) -> None:
    write(run, [row(100), trained(200, 0.1), trained(300, 0.4) | {"Eval/success_rate": 0.5}])
    path = plots.learning_curve(run)
    assert path == run.plots / "learning_curve.png"
    png = path.read_bytes()
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (1200, 780)
    assert [(line["env_steps"], line["wall_s"]) for line in table(run)] == [("200", "2.0"), ("300", "3.0")]
    assert [line["Train/success_rate"] for line in table(run)] == ["0.1", "0.4"]
    assert [line["Train/mean_reward"] for line in table(run)] == ["1.0", "4.0"]
    assert [line["Eval/success_rate"] for line in table(run)] == ["", "0.5"]


def test_the_final_evaluation_is_a_point(run: RunDir) -> None:
    write(run, [trained(200, 0.1)])
    result = {"success_rate": 0.9, "return_mean": 7.0, "success_rate_ci95": [0.8, 0.95], "episodes": 512}
    summary = {"env_steps": 200, "wall_time_s": 4.0, "eval": result}
    run.summary_json.write_text(json.dumps(summary))
    rows = plots.read_rows(run)
    assert plots.curve(rows, "Eval/success_rate") == plots.Curve([200], [4.0], [0.9])
    plots.learning_curve(run)
    assert table(run)[-1]["Eval/return_mean"] == "7.0"
    write(run, [trained(200, 0.1), trained(300, 0.2)])  # the run went on: the summary is an old one
    assert not plots.curve(plots.read_rows(run), "Eval/success_rate")


def test_a_curve_has_the_points_that_were_logged_and_no_others(run: RunDir) -> None:
    write(
        run,
        [trained(100, 0.1), row(200), trained(300, 0.3) | {"Train/success_rate": None}, trained(400, 0.2)],
    )
    found = plots.curve(plots.read_rows(run), "Train/success_rate")
    assert found == plots.Curve([100, 400], [1.0, 4.0], [0.1, 0.2])


def lines(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What is drawn in each panel: `{"title or x label": [(x, y) of each line]}`."""
    drawn: dict[str, list[Any]] = {}

    class Spy(plots.Figure):
        def savefig(self, *args: Any, **kwargs: Any) -> None:
            super().savefig(*args, **kwargs)
            for axes in self.axes:
                name = f"{axes.get_title()}|{axes.get_xlabel()}"
                while name in drawn:
                    name += "'"
                drawn[name] = [tuple(np.asarray(line.get_xydata()).T.tolist()) for line in axes.lines]

    monkeypatch.setattr(plots, "Figure", Spy)
    plots.learning_curve(run)
    return drawn


def test_both_panels_over_steps_and_over_time(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        run, [trained(60_000, 0.1), trained(120_000, 0.4) | {"Eval/success_rate": 0.5, "Eval/return_mean": 6}]
    )
    assert lines(run, monkeypatch) == {
        "Success rate|Environment steps": [([60_000, 120_000], [0.1, 0.4]), ([120_000], [0.5])],
        "Return of an episode|Environment steps": [([60_000, 120_000], [1.0, 4.0]), ([120_000], [6])],
        "|Wall time in min": [([10.0, 20.0], [0.1, 0.4]), ([20.0], [0.5])],
        "|Wall time in min'": [([10.0, 20.0], [1.0, 4.0]), ([20.0], [6])],
    }


def test_a_task_without_success_has_one_panel(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, [row(100, **{"Train/mean_reward": 3.0})])
    assert set(lines(run, monkeypatch)) == {"Return of an episode|Environment steps", "|Wall time in s"}


@pytest.mark.parametrize(("seconds", "unit"), [(600, (1, "s")), (601, (60, "min")), (40_000, (3600, "h"))])
def test_the_unit_of_time_suits_the_run(seconds: float, unit: tuple[float, str]) -> None:
    assert plots._time_unit([1.0, seconds]) == unit


@pytest.mark.parametrize("rows", [[], [row(100)]])
def test_a_run_without_episodes_says_so(run: RunDir, rows: list[dict[str, Any]]) -> None:
    write(run, rows)
    with pytest.raises(UserError, match="no episode that ended"):
        plots.learning_curve(run)
    run.metrics_jsonl.unlink()
    with pytest.raises(UserError, match="no episode that ended"):
        plots.learning_curve(run)
    assert not list(run.plots.iterdir())


def test_no_window_is_asked_for() -> None:
    """Machines without a display draw too."""
    script = "import sys, rl_platform.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
