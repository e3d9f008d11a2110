"""Train the reference tasks as a user does, several seeds each, and say when they reached their score.

    python -m benchmarks.tasks [cartpole … half_cheetah …] [--seeds 1 2 3] [--out DIR] [--figure FILE.png]

Each run is `python run.py env=<task> agent=ppo seed=<n>` with an evaluation every so often (their time counts
too). Our own tasks are held to a success rate within a time: the line says when each seed was there first, in
wall time from the command. Gymnasium's are held to the highest mean return that Stable-Baselines3's zoo and
Tianshou (a million steps, as here) and CleanRL (eight million) publish for PPO. Prints one line a task.
`--out` keeps the runs, and all numbers as JSON; runs that are finished there are not trained again.
`--figure` draws all curves into one picture, a CSV beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Goal:
    """What a task is held to.

    Attributes:
        score: "success_rate" or "return_mean" of an evaluation.
        target: of the score.
        eval_interval: iterations between evaluations.
        within_s: s from the command, for the success rate; None for the return after the last step.
        overrides: what the command line has besides.
    """

    score: str
    target: float
    eval_interval: int
    within_s: float | None = None
    overrides: tuple[str, ...] = ()


GOALS = {
    "cartpole": Goal("success_rate", 0.99, eval_interval=10, within_s=15.0),
    "reach": Goal("success_rate", 0.95, eval_interval=20, within_s=60.0),
    "push_cube": Goal("success_rate", 0.95, eval_interval=40, within_s=120.0),
    "walker12": Goal("success_rate", 0.95, eval_interval=50, within_s=600.0),
    "humanoid": Goal("success_rate", 0.95, eval_interval=100, within_s=900.0),
    "lift": Goal("success_rate", 0.95, eval_interval=25, within_s=120.0),
    # the upper end of what Isaac Lab Arena's page has after 147 M steps
    "lift_isaac": Goal("success_rate", 0.90, eval_interval=50, within_s=1200.0),
    # the highest of Stable-Baselines3's zoo, Tianshou, and CleanRL after 8 M steps
    "half_cheetah": Goal("return_mean", 5819.0, eval_interval=100),
    "hopper": Goal("return_mean", 2741.0, eval_interval=100),
    "walker2d": Goal("return_mean", 3589.0, eval_interval=100),
    # without contact forces, as the published ones
    "ant": Goal("return_mean", 3258.0, 100, overrides=("env.observations.policy.cfrc_ext=null",)),
}


@dataclass(frozen=True)
class Evaluation:
    """One point of a curve: wall time in s from the command, environment steps, score."""

    wall_s: float
    env_steps: int
    score: float


Curve = list[Evaluation]


def train(task: str, seed: int, output: Path) -> Curve:
    """Train one seed, unless `output` has it; return what its evaluations saw, also after the last step.

    Raises:
        RuntimeError: the training failed; with what it printed.
    """
    goal = GOALS[task]
    command = [
        sys.executable, "run.py", f"env={task}", "agent=ppo", f"seed={seed}", "logger=files", "video=false",
        f"eval_interval={goal.eval_interval}", f"output_dir={output}",
        *goal.overrides,
    ]  # fmt: skip
    if not (folder := _finished(task, seed, output)):
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode or not (folder := _finished(task, seed, output)):
            raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    key = f"Eval/{goal.score}"
    curve = [Evaluation(row["Time/wall_s"], row["env_steps"], row[key]) for row in rows if key in row]
    summary = json.loads((folder / "summary.json").read_text())
    if not curve or curve[-1].env_steps < summary["env_steps"]:
        last = summary["eval"]
        wall_s = summary["wall_time_s"] + last["wall_time_s"]
        curve.append(Evaluation(wall_s, summary["env_steps"], last[goal.score]))
    return curve


def _finished(task: str, seed: int, output: Path) -> Path | None:
    """The directory of the newest run of a seed that came to its end."""
    found = [path.parent for path in output.glob(f"{task}/ppo/*_s{seed}/summary.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def summarise(goal: Goal, curves: Mapping[int, Curve]) -> dict[str, Any]:
    """When each seed was at its target first, and how good it was in the end."""
    last = [curve[-1] for curve in curves.values()]
    first = [next((e.wall_s for e in curve if e.score >= goal.target), math.inf) for curve in curves.values()]
    scores = [e.score for e in last]
    median_s, score = statistics.median(first), statistics.mean(scores)
    met = score >= goal.target if goal.within_s is None else median_s <= goal.within_s
    return {
        "score": goal.score,
        "target": goal.target,
        "within_s": goal.within_s,
        "met": met,
        "seeds": list(curves),
        "first_at_target_s": [round(wall, 1) if math.isfinite(wall) else None for wall in first],
        "median_s": round(median_s, 1) if math.isfinite(median_s) else None,
        "last_evaluation": [round(value, 4) for value in scores],
        "last_evaluation_mean": round(score, 4),
        "last_evaluation_s": [round(e.wall_s, 1) for e in last],
        "last_evaluation_steps": [e.env_steps for e in last],
    }


def line(task: str, numbers: Mapping[str, Any]) -> str:
    """Say a task's summary in one line."""
    walls = ", ".join(f"{wall:.0f}" for wall in numbers["last_evaluation_s"])
    steps, verdict = max(numbers["last_evaluation_steps"]), "met" if numbers["met"] else "MISSED"
    if numbers["within_s"] is None:
        each = ", ".join(f"{value:.0f}" for value in numbers["last_evaluation"])
        mean = numbers["last_evaluation_mean"]
        said = f"{task}: return {mean:.0f} ({each}) after {steps:,} steps in {walls} s"
        return f"{said}; {numbers['target']:.0f}: {verdict}"
    first = ", ".join("never" if s is None else f"{s:.1f} s" for s in numbers["first_at_target_s"])
    each = ", ".join(f"{100 * value:.1f} %" for value in numbers["last_evaluation"])
    target = f"{100 * numbers['target']:.0f} % in {numbers['within_s']:.0f} s"
    return f"{task}: target after {first}; {each} after {steps:,} steps in {walls} s; {target}: {verdict}"


def draw(curves: Mapping[str, Mapping[int, Curve]], file: Path) -> None:
    """Draw each task's curves, a line for each seed, into one picture; write all points beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    size = (3.2 * columns, 2.3 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (task, seeds) in zip(grid.flat, curves.items(), strict=False):
        goal = GOALS[task]
        timed = goal.within_s is not None
        for curve in seeds.values():
            x = [e.wall_s if timed else e.env_steps / 1e6 for e in curve]
            axes.plot(x, [100 * e.score if timed else e.score for e in curve], linewidth=1.2)
        axes.axhline(100 * goal.target if timed else goal.target, color="0.5", linewidth=0.8, linestyle="--")
        if goal.within_s is not None:
            axes.axvline(goal.within_s, color="0.5", linewidth=0.8, linestyle="--")
            axes.set(xlabel="wall time from the command, s", ylabel="success, %", ylim=(0, 103))
        else:
            axes.set(xlabel="million steps", ylabel="return")
        axes.set_title(f"{task} (seeds {', '.join(map(str, seeds))})", fontsize=9)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)
    with file.with_suffix(".csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["task", "seed", "wall_s", "env_steps", "score"])
        for task, seeds in curves.items():
            for seed, curve in seeds.items():
                writer.writerows((task, seed, e.wall_s, e.env_steps, e.score) for e in curve)


def main(argv: list[str]) -> int:
    """Train, print, and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(GOALS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--out", type=Path, help="directory for runs and numbers (default: nothing is kept)")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw all curves into this picture")
    options = parser.parse_args(argv)
    for task in options.tasks:
        if task not in GOALS:
            parser.error(f"no goal for {task}; there are {', '.join(GOALS)}")
    curves: dict[str, dict[int, Curve]] = {}
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.out or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for task in options.tasks or GOALS:
            curves[task] = {seed: train(task, seed, folder) for seed in options.seeds}
            result[task] = summarise(GOALS[task], curves[task])
            print(line(task, result[task]), flush=True)
            # after each task, so that an interrupt loses only the one that was running
            (folder / "tasks.json").write_text(json.dumps(result, indent=2))
            if options.figure:
                draw(curves, options.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
