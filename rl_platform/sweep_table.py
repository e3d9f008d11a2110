"""What came out of a sweep: mean and interval over seeds for each setting, and the best one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rl_platform import slurm
from rl_platform.run_dir import RunDir
from rl_platform.states import state_of
from rl_platform.sweep_dir import Entry, SweepDir

METRICS = {"success_rate": "success rate", "return_mean": "return"}  # the first that all have decides
_STATES = ("finished", "running", "queued", "preempted", "cancelled", "killed", "failed", "lost")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        n: how many values there were.
        mean: of them.
        low, high: its 95 % interval by Student's t; None with a single value.
    """

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Setting:
    """All the runs that differ in their seed alone.

    Attributes:
        values: key → value of what varies.
        states: of its runs: state → how many.
        results: metric → its mean over the runs that have one.
    """

    values: dict[str, str]
    states: dict[str, int]
    results: dict[str, Estimate]

    @property
    def name(self) -> str:
        """As one would type it."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "(all)"


def settings(sweep: SweepDir) -> list[Setting]:
    """Return the sweep's settings in the order in which they were made."""
    groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in sweep.entries:
        values = tuple((key, value) for key, value in entry.varied.items() if key != "seed")
        groups.setdefault(values, []).append(entry)
    jobs = slurm.active_jobs_once
    found = []
    for values, entries in groups.items():
        states = Counter(state_of(entry.run, jobs=jobs) for entry in entries)
        evaluations = [result for entry in entries if (result := evaluation(entry.run))]
        results = {}
        for metric in METRICS:
            numbers = [float(e[metric]) for e in evaluations if e.get(metric) is not None]
            if numbers:
                results[metric] = estimate(numbers, (0.0, 1.0) if metric == "success_rate" else None)
        found.append(Setting(dict(values), dict(states), results))
    return found


def evaluation(run: RunDir) -> dict[str, Any]:
    """Return the evaluation at a run's end; empty before."""
    return run.read_summary().get("eval", {})


def best(found: Sequence[Setting]) -> list[Setting]:
    """Return the setting with the highest mean: one for each environment, whose scores cannot be compared."""
    winners: dict[tuple[str | None, ...], Setting] = {}
    for setting in found:
        env = setting.values.get("env"), setting.values.get("env.id")
        rivals = [s for s in found if (s.values.get("env"), s.values.get("env.id")) == env and s.results]
        metric = next((m for m in METRICS if rivals and all(m in s.results for s in rivals)), None)
        if metric is not None and len(rivals) > 1:
            winners[env] = max(rivals, key=lambda s: s.results[metric].mean)
    return list(winners.values())


def table(found: Sequence[Setting]) -> str:
    """Aligned columns: the setting, how many runs have a result, the results, the runs' states."""
    metrics = [metric for metric in METRICS if any(metric in s.results for s in found)]
    keys = list(dict.fromkeys(key for setting in found for key in setting.values))
    lines = [[*(short_key(key, keys) for key in keys), "n", *(METRICS[m] for m in metrics), "runs"]]
    for setting in found:
        n = max((result.n for result in setting.results.values()), default=0)
        cells = [setting.values.get(key, "") for key in keys]
        cells += [str(n), *(_shown(metric, setting.results.get(metric)) for metric in metrics)]
        lines.append([*cells, _counted(setting.states)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def report(sweep: SweepDir) -> str:
    """The table of a sweep, and below it the best setting."""
    found = settings(sweep)
    lines = [table(found)]
    if any(result.low is not None for setting in found for result in setting.results.values()):
        lines.append("In brackets: 95 % interval of the mean over the seeds")
    for winner in best(found):
        metric = next(m for m in METRICS if m in winner.results)
        lines.append(f"Best: {winner.name}  ({METRICS[metric]} {_shown(metric, winner.results[metric])})")
    return "\n".join(lines)


def as_json(sweep: SweepDir) -> dict[str, Any]:
    """The same for programs."""
    found = settings(sweep)

    def plain(setting: Setting) -> dict[str, Any]:
        results = {name: vars(result) for name, result in setting.results.items()}
        return {"values": setting.values, "states": setting.states, "results": results}

    runs = [
        {"number": e.number, "run": str(e.run.path), "varied": e.varied, "state": state_of(e.run)}
        | {"job_id": e.run.slurm_job or e.run.said().get("job_id"), "eval": evaluation(e.run)}
        for e in sweep.entries
    ]
    return {
        "sweep": str(sweep.path),
        "command": sweep.command,
        "settings": [plain(setting) for setting in found],
        "best": [plain(setting) for setting in best(found)],
        "runs": runs,
    }


def estimate(values: Sequence[float], limits: tuple[float, float] | None = None) -> Estimate:
    """Return the mean and its 95 % interval, mean ± t s/√n; `limits` are those of what is measured."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Estimate(n, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    low, high = mean - half, mean + half
    if limits is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
    return Estimate(n, mean, low, high)


def t_quantile(freedom: int, share: float = 0.95) -> float:
    """Return t with P(|T| ≤ t) = share for Student's T with `freedom` degrees of freedom.

    By bisection of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1e6
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| ≤ t): with θ = atan(t/√ν), a sum of products with growing even or odd factors."""
    theta = math.atan2(t, math.sqrt(freedom))
    square = math.cos(theta) ** 2
    odd = freedom % 2 == 1
    term, total = (math.cos(theta) if odd else 1.0), 0.0
    for k in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    if odd:
        return 2 / math.pi * (theta + math.sin(theta) * total)
    return math.sin(theta) * total


def _shown(metric: str, result: Estimate | None) -> str:
    if result is None:
        return ""
    scale, form = (100.0, ".1f") if metric == "success_rate" else (1.0, ".4g")
    unit = " %" if metric == "success_rate" else ""
    text = f"{scale * result.mean:{form}}{unit}"
    if result.low is None or result.high is None:
        return text
    return f"{text} ({scale * result.low:{form}} to {scale * result.high:{form}})"


def short_key(key: str, keys: Sequence[str]) -> str:
    """The end of a key, if no other ends alike; `agent` where it is the agent's name."""
    ends = [other.removesuffix(".name").rpartition(".")[2] for other in keys]
    leaf = key.removesuffix(".name").rpartition(".")[2]
    return leaf if ends.count(leaf) == 1 else key


def _counted(states: dict[str, int]) -> str:
    return ", ".join(f"{states[state]} {state}" for state in _STATES if state in states)
