"""Runs side by side: what differs between them, what came out, and what that allows to say."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rl_platform import registry
from rl_platform.errors import UserError
from rl_platform.old_runs import load_config
from rl_platform.run_dir import RunDir, list_runs
from rl_platform.schema import nearest, shown
from rl_platform.states import state_of
from rl_platform.statistics import ENOUGH, interquartile_mean, interval, probability_of_improvement
from rl_platform.sweep_table import METRICS, short_key

_COMPARED = ("env", "algo", "agent", "init_from")  # groups and keys whose values make a setting
_SHORT_OF = 0.95  # of the others' steps: less was trained
_TOLD = 6  # keys, at most
_LABEL = 40  # characters; settings with longer names are A, B, C …
_UNSET = "–"


@dataclass(frozen=True)
class Member:
    """A run that is compared.

    Attributes:
        run: its directory.
        env: what people call its environment; scores of different ones cannot be compared.
        cfg: its configuration, with what it did not know of yet.
        said: `run.json`.
        result: the final evaluation; empty if there was none.
        summary: `summary.json`.
        state: how the run is; "not finite" where its evaluation has a NaN.
    """

    run: RunDir
    env: str
    cfg: Mapping[str, Any]
    said: Mapping[str, Any]
    result: Mapping[str, Any]
    summary: Mapping[str, Any]
    state: str

    def value(self, key: str) -> str:
        """What the configuration has at a dotted key, as one would type it; a dash: nothing."""
        found: Any = self.cfg
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return _UNSET
            found = found[part]
        return shown(found)


@dataclass
class Setting:
    """Runs that have the same values of what is compared.

    Attributes:
        values: key → value of what is compared.
        members: those with a final evaluation.
        others: those without: state → how many.
        label: what tables and figures call it.
    """

    values: dict[str, str]
    members: list[Member] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    label: str = "all runs"

    @property
    def name(self) -> str:
        """As one would type it."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    def scores(self, metric: str) -> np.ndarray:
        """The metric at the end of each run, `(n,)`."""
        return np.array([float(member.result[metric]) for member in self.members])

    def of_each(self, key: str) -> list[float]:
        """A number of each run's summary, such as `env_steps`."""
        return [float(member.summary[key]) for member in self.members]

    def median(self, key: str) -> float:
        """The same in the middle."""
        return statistics.median(self.of_each(key))


@dataclass
class Comparison:
    """The settings of one environment.

    Attributes:
        env: its name.
        settings: in the order in which their first runs were made.
    """

    env: str
    settings: list[Setting]

    def __post_init__(self) -> None:
        """Label the settings, the best first: by the ends of their keys, or by letters."""
        order = [*self.rated, *(setting for setting in self.settings if not setting.members)]
        keys = list(order[0].values)
        names = [" ".join(f"{short_key(k, keys)}={v}" for k, v in s.values.items()) for s in order]
        if max(map(len, names)) > _LABEL and len(order) <= len(ascii_uppercase):
            names = list(ascii_uppercase[: len(order)])
        for setting, name in zip(order, names, strict=True):
            setting.label = name or "all runs"

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

    @property
    def lettered(self) -> bool:
        """Whether the labels have to be explained."""
        return any(len(setting.label) == 1 for setting in self.settings)


def find_runs(paths: Sequence[Path]) -> list[RunDir]:
    """Every run that is, or lies below, one of the paths; or that a checkpoint file belongs to.

    Raises:
        UserError: there is none.
    """
    found: dict[Path, RunDir] = {}
    for path in paths:
        runs = [RunDir.open(path)] if path.is_file() else list_runs(path)
        if not runs:
            raise UserError(f"{path}: there is no run here; python run.py list runs shows them.")
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def compare(
    runs: Sequence[RunDir], by: Sequence[str] = (), say: Callable[[str], None] = lambda text: None
) -> list[Comparison]:
    """Sort runs by environment, and by what differs there, or by the values of the keys `by`.

    `say` is told which runs are left out because their directories cannot be read.

    Raises:
        UserError: a key that nothing has, or no run that was evaluated.
    """
    members = []
    for run in runs:
        try:
            members.append(_member(run))
        except (UserError, OSError) as error:
            say(f"left out: {error}")
    asked = [_known(key, members) for key in by]
    comparisons = []
    for env in dict.fromkeys(member.env for member in members):
        own = [member for member in members if member.env == env]
        keys = asked or differing(own)
        settings: dict[tuple[str, ...], Setting] = {}
        for member in own:
            values = {key: member.value(key) for key in keys}
            setting = settings.setdefault(tuple(values.values()), Setting(values))
            if member.result:
                setting.members.append(member)
            else:
                setting.others[member.state] += 1
        if any(setting.members for setting in settings.values()):
            comparisons.append(Comparison(env, list(settings.values())))
    if not comparisons:
        states = _counted(Counter(member.state for member in members))
        raise UserError(f"None of these runs has a final evaluation: there is nothing to compare ({states}).")
    return comparisons


def _member(run: RunDir) -> Member:
    cfg: Any = OmegaConf.to_container(load_config(run, say=lambda text: None), resolve=True)
    said, state, summary = run.said(), state_of(run), run.read_summary()
    result = summary.get("eval", {})
    if not all(math.isfinite(result.get(metric) or 0.0) for metric in METRICS):
        result, state = {}, "not finite"
    env = said.get("env") or registry.env_label(cfg["env"])
    return Member(run, env, cfg, said, result, summary, state)


def _leaves(values: Any, path: str = "") -> Iterator[str]:
    """The dotted key of each value that is no mapping."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path


def differing(members: Sequence[Member]) -> list[str]:
    """The keys that make a setting and that not all runs have the same value of.

    What is switched off in one run and has numbers in another is one key. Where agents or algorithms differ,
    their other keys are part of that.
    """
    named = {key for key in ("agent.name", "algo.name") if len({m.value(key) for m in members}) > 1}
    found: list[str] = []
    leaves = dict.fromkeys(key for member in members for key in _leaves(member.cfg))
    for key in leaves:
        group, *parts = key.split(".")
        if group not in _COMPARED or (key not in named and f"{group}.name" in named):
            continue
        above = [".".join([group, *parts[:n]]) for n in range(len(parts))]
        key = next((known for known in above if known in leaves), key)
        if key not in found and len({member.value(key) for member in members}) > 1:
            found.append(key)
    return found


def _known(key: str, members: Sequence[Member]) -> str:
    """The key itself; that of a group's name where it is a group; or the only one that ends so."""
    keys = sorted({key for member in members for key in _leaves(member.cfg)})
    if f"{key}.name" in keys:
        return f"{key}.name"
    if any(member.value(key) != _UNSET for member in members):
        return key
    ends = [known for known in keys if known.endswith(f".{key}")]
    if len(ends) == 1:
        return ends[0]
    by_end = {known.rpartition(".")[2]: known for known in keys}
    match = nearest(key, keys) or by_end.get(nearest(key, list(by_end)) or "")
    if ends:
        raise UserError(f"--by {key}: which of {', '.join(ends[:_TOLD])}?")
    raise UserError(f"--by {key}: no run has this key" + (f"; did you mean {match}?" if match else ""))


def cautions(comparison: Comparison) -> Iterator[str]:
    """What has to be known before one says that a setting is better."""
    rated = comparison.rated
    for setting in comparison.settings:
        if setting.others:
            told = _counted(setting.others)
            yield f"{setting.label}: not counted, for want of a final evaluation: {told}"
    few = [setting.label for setting in rated if len(setting.members) < ENOUGH]
    if few:
        yield f"fewer than {ENOUGH} runs, too few to tell luck from merit: {'; '.join(few)}"
    members = [member for setting in rated for member in setting.members]
    if mixed := [key for key in differing(members) if key not in rated[0].values]:
        told = ", ".join(mixed[:_TOLD]) + (f" and {len(mixed) - _TOLD} more" if len(mixed) > _TOLD else "")
        yield f"runs differ in more than what is compared: {told}"
    for setting in rated:
        seeds = Counter(member.value("seed") for member in setting.members)
        if twice := [seed for seed, n in seeds.items() if n > 1]:
            yield f"{setting.label}: the same seed more than once: {', '.join(twice)}"
    yield from _unequal_training(rated)
    yield from _circumstances(members, rated)


def _unequal_training(rated: Sequence[Setting]) -> Iterator[str]:
    for setting in rated:
        least, most = min(setting.of_each("env_steps")), max(setting.of_each("env_steps"))
        if least < _SHORT_OF * most:
            yield f"{setting.label}: its runs were trained for {_count(least)} to {_count(most)} steps"
    most = max(setting.median("env_steps") for setting in rated)
    for setting in rated:
        if (steps := setting.median("env_steps")) < _SHORT_OF * most:
            yield f"{setting.label}: trained for {_count(steps)} steps, others for {_count(most)}"


def _circumstances(members: Sequence[Member], rated: Sequence[Setting]) -> Iterator[str]:
    machines = {(m.said.get("cpu"), m.value("device"), m.value("num_threads")) for m in members}
    if len(machines) > 1:
        yield "wall times are of different processors, devices or numbers of threads: compare steps"
    if len({(m.result.get("episodes"), m.result.get("seed")) for m in members}) > 1:
        yield "evaluated over different numbers of episodes, or from different seeds"
    if len({frozenset(m.value("seed") for m in setting.members) for setting in rated}) > 1:
        yield "not the same seeds of every setting"
    code = [git for member in members if (git := member.said.get("git"))]
    if len({git.get("commit") for git in code}) > 1:
        yield "runs of different commits (run.json says which)"
    if any(git.get("dirty") for git in code):
        yield "runs of code that was not committed (git.diff in their directories)"


def table(comparison: Comparison) -> str:
    """Aligned columns: settings, the best first, with what came out."""
    metric, rated = comparison.metric, comparison.rated
    several = len(rated) > 1
    keys = [] if comparison.lettered else list(rated[0].values)
    head = [""] if comparison.lettered else [short_key(key, keys) for key in keys]
    lines = [[*head, "n", METRICS[metric], "worst", "steps", "wall", *["beats the best"] * several]]
    for setting in rated:
        scores = setting.scores(metric)
        beats = "" if setting is rated[0] else _beats(scores, rated[0].scores(metric))
        lines.append(
            [
                *([setting.label] if comparison.lettered else setting.values.values()),
                str(len(scores)),
                _with_interval(metric, scores),
                _number(metric, scores.min()) + _unit(metric),
                _count(setting.median("env_steps")),
                f"{setting.median('wall_time_s'):.0f} s",
                *[beats] * several,
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def report(comparison: Comparison) -> str:
    """The table of an environment, how it is to be read, and what to beware of."""
    lines = [f"{comparison.env}: {METRICS[comparison.metric]} of the final evaluations", table(comparison)]
    if comparison.lettered:
        lines += [f"  {setting.label}: {setting.name}" for setting in comparison.rated]
    if any(len(setting.members) > 1 for setting in comparison.rated):
        told = f"of {ENOUGH} and more with its 95 % bootstrap interval"
        lines.append(f"  Interquartile mean over the runs, {told}; the worst run;")
        lines.append("  medians of steps and wall time.")
    if len(comparison.rated) > 1:
        lines.append("  Beats the best: how likely a run of this line is better than one of the first.")
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
                "label": setting.label,
                "values": setting.values,
                "runs": [str(member.run.path) for member in setting.members],
                "seeds": [member.value("seed") for member in setting.members],
                "scores": scores.tolist(),
                "iqm": float(interquartile_mean(scores)),
                "iqm_ci95": None if ends is None else [float(end) for end in ends],
                "env_steps": setting.median("env_steps"),
                "wall_time_s": setting.median("wall_time_s"),
                "beats_best": probability_of_improvement(scores, comparison.rated[0].scores(metric)),
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
    text = _number(metric, interquartile_mean(scores)) + _unit(metric)
    return text if ends is None else f"{text} ({_number(metric, ends[0])} to {_number(metric, ends[1])})"


def _beats(scores: np.ndarray, best: np.ndarray) -> str:
    ends = interval(probability_of_improvement, scores, best)
    text = f"{100 * probability_of_improvement(scores, best):.0f} %"
    return text if ends is None else f"{text} ({100 * float(ends[0]):.0f} to {100 * float(ends[1]):.0f})"


def _number(metric: str, value: Any) -> str:
    return f"{100 * float(value):.1f}" if metric == "success_rate" else f"{float(value):.4g}"


def _unit(metric: str) -> str:
    return " %" if metric == "success_rate" else ""


def _count(steps: float) -> str:
    if steps >= 1e6:
        return f"{steps / 1e6:.2f} M"
    return f"{steps / 1e3:.0f} k" if steps >= 1e4 else f"{steps:.0f}"


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in states.items()) or "no run"
