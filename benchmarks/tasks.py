"""Train the reference tasks as a user does, several seeds each, and say when they reached their score.

    python -m benchmarks.tasks [cartpole reach push_cube walker12 lift] [--seeds 1 2 3] [--out DIR]

Each run is `python run.py env=<task> agent=ppo seed=<n>` with an evaluation every so often (their time counts
too). Prints JSON: for each task the wall time from the command to the first evaluation at its target, the
best success within its time limit, and the last one. `--out` keeps the runs, and draws each task's curve.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Goal:
    """What a task is held to, s from the command; and the iterations between evaluations."""

    success: float
    within_s: float
    eval_interval: int


GOALS = {
    "cartpole": Goal(success=0.99, within_s=15.0, eval_interval=10),
    "reach": Goal(success=0.95, within_s=60.0, eval_interval=20),
    "push_cube": Goal(success=0.95, within_s=120.0, eval_interval=40),
    "walker12": Goal(success=0.95, within_s=600.0, eval_interval=50),
    "lift": Goal(success=0.95, within_s=120.0, eval_interval=25),
}

Curve = list[tuple[float, int, float]]  # wall time in s, environment steps, success rate


def train(task: str, seed: int, output: Path) -> Curve:
    """Train one seed; return what its evaluations saw.

    Raises:
        RuntimeError: the training failed; with what it printed.
    """
    command = [
        sys.executable, "run.py", f"env={task}", "agent=ppo", f"seed={seed}", "logger=files", "video=false",
        f"eval_interval={GOALS[task].eval_interval}", f"output_dir={output}",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    folder = max(output.glob(f"{task}/ppo/*_s{seed}"), key=lambda path: path.stat().st_mtime)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (row["Time/wall_s"], row["env_steps"], row["Eval/success_rate"])
        for row in rows
        if "Eval/success_rate" in row
    ]


def summarise(goal: Goal, curves: dict[int, Curve]) -> dict[str, Any]:
    """When each seed was at its target first, and how good it was in the end."""
    first = {
        seed: next((wall for wall, _, success in curve if success >= goal.success), None)
        for seed, curve in curves.items()
    }
    limit = [
        max((success for wall, _, success in curve if wall <= goal.within_s), default=0.0)
        for curve in curves.values()
    ]
    last = [curve[-1] for curve in curves.values()]
    reached = [wall for wall in first.values() if wall is not None]
    return {
        "target": goal.success,
        "within_s": goal.within_s,
        "first_at_target_s": {seed: wall and round(wall, 1) for seed, wall in first.items()},
        "median_s": round(statistics.median(reached), 1) if len(reached) == len(first) else None,
        "best_within_limit": [round(success, 4) for success in limit],
        "last_evaluation": [round(success, 4) for _, _, success in last],
        "last_evaluation_s": [round(wall, 1) for wall, _, _ in last],
        "last_evaluation_steps": [steps for _, steps, _ in last],
    }


def draw(task: str, curves: dict[int, Curve], folder: Path) -> None:
    """Write `<task>.png` and `<task>.csv`: success over wall time, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for seed, curve in curves.items():
        axes.plot([wall for wall, _, _ in curve], [100 * s for _, _, s in curve], label=f"seed {seed}")
    axes.axhline(100 * GOALS[task].success, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xlabel="wall time from the command, s", ylabel="success, %", title=task, ylim=(0, 102))
    axes.legend(frameon=False)
    figure.savefig(folder / f"{task}.png", dpi=120)
    plt.close(figure)
    with (folder / f"{task}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "wall_s", "env_steps", "success_rate"])
        writer.writerows((seed, *row) for seed, curve in curves.items() for row in curve)


def main(argv: list[str]) -> int:
    """Train, print, and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(GOALS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--out", type=Path, help="directory for runs and curves (default: nothing is kept)")
    options = parser.parse_args(argv)
    for task in options.tasks:
        if task not in GOALS:
            parser.error(f"no goal for {task}; there are {', '.join(GOALS)}")
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.out or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for task in options.tasks or GOALS:
            curves = {seed: train(task, seed, folder) for seed in options.seeds}
            result[task] = summarise(GOALS[task], curves)
            draw(task, curves, folder)
            print(f"{task}: {json.dumps(result[task])}", file=sys.stderr)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
