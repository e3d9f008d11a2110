"""What a search has found: its settings from best to worst, and the command that trains with the best."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from rl_platform import provenance
from rl_platform.sweepers.space import SEED
from rl_platform.sweepers.study import Study, Trial

_STATES = ("finished", "pruned", "running", "failed")
_OF_THE_SWEEP = r"[~+]*(sweep|sweeper|launcher|run_name|hydra)([./=@]|$)"  # no part of a setting


def report(study: Study, typed: Sequence[Override]) -> str:
    """A table of all settings, how many ended how, and the best as a command line."""
    trials = study.trials
    lines = [table(study), ""] if trials else []
    counts = {
        state: sum(t.state == state for t in trials) for state in ("finished", "pruned", "failed", "running")
    }
    lines.append(", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no settings tried")
    best = study.best()
    lines += [f"\nThe best, trial {best[0].number}: {result(study, best[0])}"] if len(best) == 1 else []
    if len(best) > 1:
        lines.append(f"\n{len(best)} settings that no other beats in every objective:")
    for trial in best:
        note = f"  # {result(study, trial)}" if len(best) > 1 else ""
        lines.append(f"  {command(typed, trial)}{note}")
    return "\n".join(lines)


def table(study: Study) -> str:
    """A line for each trial: the finished first, from best to worst, then the others."""
    names = study.config.objectives
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.setting))
    rows = [["trial", "state", *names, *(_leaf(key, keys) for key in keys)]]
    for trial in sorted(study.trials, key=lambda trial: _rank(study, trial)):
        values = [shown(value) for value in trial.values] or [""] * len(names)
        setting = [trial.setting.get(key, "") for key in keys]
        rows.append([str(trial.number), trial.state, *values, *setting])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def result(study: Study, trial: Trial) -> str:
    """What a trial was worth, with the objectives' names."""
    named = zip(study.config.objectives, trial.values, strict=False)
    return ", ".join(f"{name} {shown(value)}" for name, value in named) or "no value"


def command(typed: Sequence[Override], trial: Trial) -> str:
    """The command that trains a run with a trial's setting, as one would type it."""
    words = []
    for override in typed:
        key = override.get_key_element()
        if re.match(_OF_THE_SWEEP, key):
            continue
        if not override.is_sweep_override():
            words.append(str(override.input_line))
        elif key != SEED:
            words.append(f"{key}={trial.setting[key]}")
    return provenance.run(*words)


def shown(value: float) -> str:
    """A number in four digits."""
    return f"{value:.4g}"


def _rank(study: Study, trial: Trial) -> tuple[int, float, int]:
    order = _STATES.index(trial.state)
    sign = 1.0 if study.config.directions[0] == "minimize" else -1.0
    return order, sign * trial.values[0] if trial.values else 0.0, trial.number


def _leaf(key: str, keys: Sequence[str]) -> str:
    """The end of a key, if no other ends alike."""
    leaf = key.rpartition(".")[2]
    return leaf if sum(other.rpartition(".")[2] == leaf for other in keys) == 1 else key
