"""Figures of runs, each with its data as CSV beside it. Nothing is smoothed.

Importing this module takes most of a second (Matplotlib): do it when a figure is wanted.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from rl_platform import atomic
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from rl_platform.statistics import interquartile_mean, interval

# Okabe and Ito's colours, told apart by the colour-blind too (without yellow, too pale for lines).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_POINTS = 200  # of the mean of several runs
_DRAWS = 500  # of the bootstrap, at each of them
_LONGEST_IN_S = 600.0  # wall times beyond are drawn in minutes
_LONGEST_IN_MIN = 600.0  # and beyond these in hours


@dataclass(frozen=True)
class Curve:
    """A number over the course of a run; it can have fewer points than the run has log steps.

    Attributes:
        env_steps: summed over environments and ranks, growing.
        wall_s: s since the command was typed, growing.
        values: one for each.
    """

    env_steps: list[int]
    wall_s: list[float]
    values: list[float]

    def __bool__(self) -> bool:
        """Whether there is a point."""
        return bool(self.values)


@dataclass(frozen=True)
class Panel:
    """What is drawn over both axes.

    Attributes:
        title: in the figure.
        train: metric of the training's episodes.
        evaluation: metric of the evaluations, and its key in summary.json behind `Eval/`.
        percent: draw from 0 to 100 %.
    """

    title: str
    train: str
    evaluation: str
    percent: bool


PANELS = (
    Panel("Success rate", "Train/success_rate", "Eval/success_rate", percent=True),
    Panel("Return of an episode", "Train/mean_reward", "Eval/return_mean", percent=False),
)


def read_rows(run_dir: RunDir) -> list[dict[str, Any]]:
    """Return the run's metrics, and as a last row what its final evaluation says, if there was one."""
    rows = run_dir.read_metrics()
    summary = run_dir.read_summary()
    try:
        final = {f"Eval/{name}": value for name, value in summary["eval"].items()}
        point = {"env_steps": summary["env_steps"], "Time/wall_s": summary["wall_time_s"]}
    except KeyError:
        return rows
    # The summary of an earlier sitting is not the end of this one.
    if rows and rows[-1]["env_steps"] > point["env_steps"]:
        return rows
    return [*rows, point | final]


def curve(rows: Sequence[dict[str, Any]], metric: str) -> Curve:
    """Pick one metric out of a run's rows; rows without it have no point."""
    points = [
        (row["env_steps"], row["Time/wall_s"], row[metric])
        for row in rows
        if isinstance(row.get(metric), int | float) and row.get("Time/wall_s") is not None
    ]
    env_steps, wall_s, values = (
        (list(column) for column in zip(*points, strict=True)) if points else ([],) * 3
    )
    return Curve(env_steps, wall_s, values)


def learning_curve(run_dir: RunDir) -> Path:
    """Draw success rate and return over environment steps and over wall time.

    Writes `plots/learning_curve.png` and, with the same points, `plots/learning_curve.csv`.

    Returns:
        The picture.

    Raises:
        UserError: the run has no points to draw.
    """
    rows = read_rows(run_dir)
    curves = {
        panel: (curve(rows, panel.train), curve(rows, panel.evaluation))
        for panel in PANELS
        if curve(rows, panel.train) or curve(rows, panel.evaluation)
    }
    if not curves:
        raise UserError(f"{run_dir.metrics_jsonl} has no episode that ended.")
    path = run_dir.plots / "learning_curve.png"
    run_dir.plots.mkdir(exist_ok=True)
    atomic.write_text(path.with_suffix(".csv"), _as_csv(rows))
    figure = Figure(figsize=(1 + 4.5 * len(curves), 6.5), dpi=120, layout="constrained")
    figure.suptitle(_title(run_dir))
    grid = figure.subplots(2, len(curves), squeeze=False, sharey="col")
    for (panel, (train, evaluation)), (over_steps, over_time) in zip(curves.items(), grid.T, strict=True):
        over_steps.set_title(panel.title)
        _draw(over_steps, train.env_steps, train, evaluation.env_steps, evaluation)
        _steps_axis(over_steps)
        unit, name = _time_unit([*train.wall_s, *evaluation.wall_s])
        seconds = ([s / unit for s in part.wall_s] for part in (train, evaluation))
        _draw(over_time, next(seconds), train, next(seconds), evaluation)
        over_time.set_xlabel(f"Wall time in {name}")
        for axes in (over_steps, over_time):
            _value_axis(axes, panel)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)
    return path


def compared(title: str, settings: Mapping[str, Sequence[RunDir]], metric: str, path: Path) -> list[RunDir]:
    """Draw the curves of several settings, over environment steps and over wall time.

    A faint line for each run; a bold one for their interquartile mean with its 95 % bootstrap interval, as
    far as all runs of the setting go. Evaluations are drawn where all runs made some on the way, else
    the training's episodes. All points of the faint lines are in a CSV beside the picture.

    Args:
        title: of the figure.
        settings: name → its runs.
        metric: `success_rate` or `return_mean`.
        path: of the picture, a PNG; its folder is made.

    Returns:
        The runs that have no points.

    Raises:
        UserError: that is so of all of them.
    """
    panel = next(panel for panel in PANELS if panel.evaluation == f"Eval/{metric}")
    rows = {run.path: read_rows(run) for runs in settings.values() for run in runs}
    evaluated = all(len(curve(own, panel.evaluation).values) > 1 for own in rows.values())
    name = panel.evaluation if evaluated else panel.train
    curves = {
        setting: {run: found for run in runs if (found := curve(rows[run.path], name))}
        for setting, runs in settings.items()
    }
    if not any(curves.values()):
        raise UserError(f"no run logged {name}: no episode ended, or logger=files was left out")
    unit, unit_name = _time_unit(
        [s for own in curves.values() for found in own.values() for s in found.wall_s]
    )
    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    figure.suptitle(title)
    over_steps, over_time = figure.subplots(1, 2, sharey=True)
    for color, (setting, own) in zip(cycle(PALETTE), curves.items(), strict=False):
        label = f"{setting} (n={len(own)})"
        _draw_together(over_steps, [(c.env_steps, c.values) for c in own.values()], color, label)
        _draw_together(
            over_time, [([s / unit for s in c.wall_s], c.values) for c in own.values()], color, label
        )
    how = "evaluations" if evaluated else "training, exploring policy"
    over_steps.set_ylabel(f"{panel.title} ({how})")
    _steps_axis(over_steps)
    over_time.set_xlabel(f"Wall time in {unit_name} (means as far as all runs go)")
    for axes in (over_steps, over_time):
        _value_axis(axes, panel)
    figure.legend(*over_steps.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        (setting, run.said().get("seed"), run.path, *point)
        for setting, own in curves.items()
        for run, found in own.items()
        for point in zip(found.env_steps, found.wall_s, found.values, strict=True)
    ]
    atomic.write_text(
        path.with_suffix(".csv"), _csv(["setting", "seed", "run", "env_steps", "wall_s", name], lines)
    )
    _save(figure, path)
    return [run for setting, runs in settings.items() for run in runs if run not in curves[setting]]


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic.write_bytes(path, buffer.getvalue())


def _draw_together(axes: Axes, lines: Sequence[tuple[Any, Any]], color: str, label: str) -> None:
    """Draw runs (x, y) faintly, and their interquartile mean where all of them are."""
    for x, y in lines:
        axes.plot(x, y, color=color, linewidth=0.7, alpha=0.35)
    first, last = max((x[0] for x, _ in lines), default=0), min((x[-1] for x, _ in lines), default=0)
    grid = np.linspace(first, last, _POINTS)
    values = np.array([np.interp(grid, x, y) for x, y in lines]).reshape(-1, _POINTS)
    if first >= last:
        axes.plot([], [], color=color, linewidth=2, label=label)
        return
    axes.plot(grid, interquartile_mean(values), color=color, linewidth=2, label=label)
    ends = interval(interquartile_mean, values, draws=_DRAWS)
    if ends is not None:
        axes.fill_between(grid, *ends, color=color, alpha=0.15, linewidth=0)


def _draw(
    axes: Axes, train_x: Sequence[float], train: Curve, evaluation_x: Sequence[float], evaluation: Curve
) -> None:
    """Draw a run: training as a line, evaluations as points on top."""
    marker = "." if len(train.values) == 1 else None  # a line of one point cannot be seen
    label = "training: exploring policy, episodes since the last log step"
    axes.plot(train_x, train.values, color=PALETTE[0], marker=marker, linewidth=1.2, label=label)
    if evaluation:
        label = "evaluation: deterministic policy, fixed seeds"
        axes.plot(
            evaluation_x, evaluation.values, "o", color=PALETTE[1], markersize=5, clip_on=False, label=label
        )


def _steps_axis(axes: Axes) -> None:
    axes.set_xlabel("Environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _value_axis(axes: Axes, panel: Panel) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    if panel.percent:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _time_unit(seconds: Sequence[float]) -> tuple[float, str]:
    """Return the length in s, and the name, of the unit that suits these times."""
    longest = max(seconds, default=0.0)
    if longest <= _LONGEST_IN_S:
        return 1.0, "s"
    return (60.0, "min") if longest <= 60.0 * _LONGEST_IN_MIN else (3600.0, "h")


def _title(run_dir: RunDir) -> str:
    state = run_dir.read_state()
    parts = [str(state[key]) for key in ("env", "agent") if state.get(key)]
    if state.get("seed") is not None:
        parts.append(f"seed {state['seed']}")
    return ", ".join(parts) or run_dir.path.name


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return the points of every panel; an empty cell is a number that was not known then."""
    metrics = ["Train/episodes", *(name for panel in PANELS for name in (panel.train, panel.evaluation))]
    lines = []
    for row in rows:
        values = [row.get(name) for name in metrics]
        if any(value is not None and math.isfinite(value) for value in values):
            lines.append([row["env_steps"], row.get("Time/wall_s"), *values])
    return _csv(["env_steps", "wall_s", *metrics], lines)


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return buffer.getvalue()
