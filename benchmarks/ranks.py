"""Time one rank with two threads against two ranks of one thread: the same training, by turns.

    python -m benchmarks.ranks [env=lift … any override of run.py]

Each training is a command of its own, as a user starts it. Its speed is the environment steps between two log
rows over the wall time between them, so that waiting and logging count, starting and evaluating do not.
Prints JSON; `ratio` is two ranks over one, the median over the rounds. `shares` says where the wall time of
an iteration goes, on rank 0: what ranks wait for each other before a decision is `waiting`, and all-reducing
gradients is a part of `learning`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rl_platform.timing import PHASES

ROOT = Path(__file__).parents[1]
ROUNDS = 3
ITERATIONS, WARM_UP = 40, 10
SIDES = {
    "one_rank": ["launcher=local"],
    "two_ranks": ["launcher=distributed", "launcher.num_processes=2"],
}


def trained(overrides: list[str], side: str) -> list[dict[str, Any]]:
    """Train for some iterations; return the rows of its log after the first ones."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "run.py", *overrides, *SIDES[side], "logger=files", "video=false",
            "eval.episodes=1", "eval.num_envs=1", f"max_iterations={ITERATIONS}", "total_env_steps=null",
            f"output_dir={folder}",
        ]  # fmt: skip
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{run.stderr}")
        file = next(Path(folder).rglob("metrics.jsonl"))
        return [json.loads(line) for line in file.read_text().splitlines()][WARM_UP - 1 :]


def speed(rows: list[dict[str, Any]]) -> float:
    """Environment steps per second of wall time."""
    first, last = rows[0], rows[-1]
    return (last["env_steps"] - first["env_steps"]) / (last["Time/wall_s"] - first["Time/wall_s"])


def shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The share of the iterations' time that each phase took."""
    whole = sum(row["Time/iteration_s"] for row in rows)
    return {phase: round(sum(row[f"Perf/{phase}_s"] for row in rows) / whole, 3) for phase in PHASES}


def main(argv: list[str]) -> int:
    """Measure and print."""
    overrides = argv or ["env=lift"]
    rounds = [{side: trained(overrides, side) for side in SIDES} for _ in range(ROUNDS)]
    speeds = {side: [speed(one[side]) for one in rounds] for side in SIDES}
    ratios = [two / one for one, two in zip(speeds["one_rank"], speeds["two_ranks"], strict=True)]
    result: dict[str, Any] = {
        f"{side}_steps_per_s": round(statistics.median(each)) for side, each in speeds.items()
    }
    result["ratio"] = round(statistics.median(ratios), 3)
    result["ratio_min_max"] = [round(min(ratios), 3), round(max(ratios), 3)]
    result["shares"] = {side: shares(rounds[-1][side]) for side in SIDES}
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
