"""Runs side by side: what differs between them, what came out, and what that allows to say."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rl_platform import registry
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir, list_runs
from rl_platform.schema import nearest, shown
from rl_platform.states import state_of
from rl_platform.statistics import interquartile_mean, interval, probability_of_improvement
from rl_platform.sweep_table import METRICS, evaluation

_COMPARED = ("env", "algo", "agent", "init_from")  # groups and keys whose values make a setting
_SHORT_OF = 0.95  # of the others' steps: less was trained
_ENOUGH = 3  # runs of a setting
_TOLD = 4  # keys, at most


@dataclass(frozen=True)
class Member:
    """A run that is compared.

    Attributes:
        run: its directory.
        env: what people call its environment; scores of different ones cannot be compared.
        values: dotted key → value of its configuration, as one would type it.
        said: `run.json`.
        result: the final evaluation; empty if there was none.
        summary: `summary.json`.
    """

    run: RunDir
    env: str
    values: Mapping[str, str]
    said: Mapping[str, Any]
    result: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass
class Setting:
    """Runs that differ in nothing that is compared: in their seeds.

    Attributes:
        values: key → value of what is compared.
        members: those with a final evaluation.
        others: those without: state → how many.
    """

    values: dict[str, str]
    members: list[Member] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """As one would type it."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    def scores(self, metric: str) -> np.ndarray:
        """The metric at the end of each run, `(n,)`."""
        return np.array([float(member.result[metric]) for member in self.members])

    def median(self, key: str) -> float:
        """Of a number in the summaries, such as `env_steps`."""
        return statistics.median(float(member.summary[key]) for member in self.members)


@dataclass
class Comparison:
    """The settings of one environment.

    Attributes:
        env: its name.
        settings: in the order in which their first runs were made.
    """

    env: str
    settings: list[Setting]

    @cached_property
    def rated(self) -> list[Setting]:
        """Those that have a result, the best first."""
        found = [setting for setting in self.settings if setting.members]
        return sorted(found, key=lambda s: -float(interquartile_mean(s.scores(self.metric))))

    @cached_property
    def metric(self) -> str:
        """The first of success rate and return that all runs report."""
        members = [member for setting in self.settings for member in setting.members]
        return next(m for m in METRICS if all(member.result.get(m) is not None for member in members))


def find_runs(paths: Sequence[Path]) -> list[RunDir]:
    """Every run that is, or lies below, one of the paths.

    Raises:
        UserError: there is none.
    """
    found: dict[Path, RunDir] = {}
    for path in paths:
        runs = list_runs(path)
        if not runs:
            raise UserError(f"{path}: there is no run here; python run.py list runs shows them.")
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def compare(runs: Sequence[RunDir], by: Sequence[str] = ()) -> list[Comparison]:
    """Sort runs by environment, and by what differs there, or by the values of the keys `by`.

    Raises:
        UserError: a key that nothing has, or no run that was evaluated.
    """
    members = [_member(run) for run in runs]
    comparisons = []
    for env in dict.fromkeys(member.env for member in members):
        own = [member for member in members if member.env == env]
        keys = [_known(key, own) for key in by] if by else list(_differing(own))
        settings: dict[tuple[str, ...], Setting] = {}
        for member in own:
            values = {key: member.values.get(key, "–") for key in keys}
            setting = settings.setdefault(tuple(values.values()), Setting(values))
            if member.result:
                setting.members.append(member)
            else:
                setting.others[state_of(member.run)] += 1
        if any(setting.members for setting in settings.values()):
            comparisons.append(Comparison(env, list(settings.values())))
    if not comparisons:
        raise UserError("None of these runs has a final evaluation: there is nothing to compare yet.")
    return comparisons


def _member(run: RunDir) -> Member:
    cfg = OmegaConf.to_container(run.load_config(), resolve=True)
    assert isinstance(cfg, dict)
    result = evaluation(run)
    summary = json.loads(run.summary_json.read_bytes()) if result else {}
    said = run.said()
    env = said.get("env") or registry.env_label(cfg["env"])
    return Member(run, env, dict(_flat(cfg)), said, result, summary)


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each value that is no mapping, by its dotted key."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, shown(values)


def _differing(members: Sequence[Member]) -> Iterator[str]:
    """The keys that make a setting and that not all runs have the same value of.

    Where agents or algorithms differ, their other keys are part of that. What a run of an earlier version
    does not know of is no difference.
    """
    named = {key for key in ("agent.name", "algo.name") if len({m.values.get(key) for m in members}) > 1}
    for key in dict.fromkeys(key for member in members for key in member.values):
        group = key.partition(".")[0]
        if group not in _COMPARED or (key not in named and f"{group}.name" in named):
            continue
        if len({member.values[key] for member in members if key in member.values}) > 1:
            yield key


def _known(key: str, members: Sequence[Member]) -> str:
    """The key itself; that of a group's name where it is a group; or the only one that ends so."""
    keys = {key for member in members for key in member.values}
    for known in (key, f"{key}.name"):
        if known in keys:
            return known
    by_end = {known.rpartition(".")[2]: known for known in sorted(keys)}
    if sum(known.endswith(f".{key}") for known in keys) == 1:
        return by_end[key]
    match = nearest(key, sorted(keys)) or by_end.get(nearest(key, list(by_end)) or "")
    raise UserError(f"--by {key}: no run has this key" + (f"; did you mean {match}?" if match else ""))


def cautions(comparison: Comparison) -> Iterator[str]:
    """What has to be known before one says that a setting is better."""
    rated = comparison.rated
    for setting in comparison.settings:
        if setting.others:
            told = ", ".join(f"{n} {state}" for state, n in setting.others.items())
            yield f"{setting.name}: not counted, for want of a final evaluation: {told}"
    few = [setting.name for setting in rated if len(setting.members) < _ENOUGH]
    if few:
        yield f"fewer than {_ENOUGH} runs, too few to tell luck from merit: {'; '.join(few)}"
    most = max(setting.median("env_steps") for setting in rated)
    for setting in rated:
        if (steps := setting.median("env_steps")) < _SHORT_OF * most:
            yield f"{setting.name}: trained for {_count(steps)} steps, others for {_count(most)}"
    for setting in rated:
        if mixed := [key for key in _differing(setting.members) if key not in setting.values]:
            told = ", ".join(mixed[:_TOLD]) + (" …" if len(mixed) > _TOLD else "")
            yield f"{setting.name}: its runs differ in more than their seeds: {told}"
    yield from _differences(rated)


def _differences(rated: Sequence[Setting]) -> Iterator[str]:
    members = [member for setting in rated for member in setting.members]
    machines = {
        (member.said.get("cpu"), member.values.get("device"), member.values.get("num_threads"))
        for member in members
    }
    if len(machines) > 1:
        yield "wall times are of different processors, devices or numbers of threads: compare steps"
    asked = {(member.result.get("episodes"), member.result.get("seed")) for member in members}
    if len(asked) > 1:
        yield "evaluated with different numbers of episodes or seeds: python run.py eval RUN does it anew"
    seeds = {frozenset(member.values["seed"] for member in setting.members) for setting in rated}
    if len(seeds) > 1:
        yield "not the same seeds of every setting"
    code = [git for member in members if (git := member.said.get("git"))]
    if len({git.get("commit") for git in code}) > 1:
        yield "runs of different commits (run.json says which)"
    if any(git.get("dirty") for git in code):
        yield "runs of code that was not committed (git.diff in their directories)"


def table(comparison: Comparison) -> str:
    """Aligned columns: settings, the best first, with what came out."""
    metric, rated = comparison.metric, comparison.rated
    keys = list(rated[0].values)
    best = rated[0].scores(metric)
    lines = [[*keys, "n", METRICS[metric], "worst", "steps", "wall", "beats the first"]]
    for setting in rated:
        scores = setting.scores(metric)
        beats = "" if setting is rated[0] else f"{100 * probability_of_improvement(scores, best):.0f} %"
        lines.append(
            [
                *setting.values.values(),
                str(len(scores)),
                _with_interval(metric, scores),
                _number(metric, scores.min()),
                _count(setting.median("env_steps")),
                f"{setting.median('wall_time_s'):.0f} s",
                beats,
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def report(comparison: Comparison) -> str:
    """The table of an environment, how it is to be read, and what to beware of."""
    what = METRICS[comparison.metric]
    lines = [
        f"{comparison.env}: {what} of the final evaluations",
        table(comparison),
        "  Interquartile mean over the runs, its 95 % bootstrap interval in brackets; the worst run; medians",
        "  of steps and wall time; how likely a run of this setting is better than one of the first.",
    ]
    return "\n".join([*lines, *(f"  ! {caution}" for caution in cautions(comparison))])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The same for programs."""
    metric = comparison.metric
    settings = []
    for setting in comparison.rated:
        scores = setting.scores(metric)
        ends = interval(interquartile_mean, scores)
        settings.append(
            {
                "values": setting.values,
                "runs": [str(member.run.path) for member in setting.members],
                "scores": scores.tolist(),
                "iqm": float(interquartile_mean(scores)),
                "iqm_ci95": None if ends is None else [float(end) for end in ends],
                "env_steps": setting.median("env_steps"),
                "wall_time_s": setting.median("wall_time_s"),
                "beats_first": probability_of_improvement(scores, comparison.rated[0].scores(metric)),
            }
        )
    return {
        "env": comparison.env,
        "metric": metric,
        "settings": settings,
        "cautions": list(cautions(comparison)),
    }


def _with_interval(metric: str, scores: np.ndarray) -> str:
    ends = interval(interquartile_mean, scores)
    text = _number(metric, interquartile_mean(scores))
    return text if ends is None else f"{text} ({_number(metric, ends[0])} to {_number(metric, ends[1])})"


def _number(metric: str, value: Any) -> str:
    return f"{100 * float(value):.1f} %" if metric == "success_rate" else f"{float(value):.4g}"


def _count(steps: float) -> str:
    if steps >= 1e6:
        return f"{steps / 1e6:.2f} M"
    return f"{steps / 1e3:.0f} k" if steps >= 1e4 else f"{steps:.0f}"
