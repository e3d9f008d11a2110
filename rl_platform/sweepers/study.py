"""A sweep as a study of Optuna's: what was tried, what it was worth, what to try next."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from rl_platform.errors import UserError
from rl_platform.sweepers import pruning
from rl_platform.sweepers.optuna import EVALUATION, SCORE, Config
from rl_platform.sweepers.pruning import Curve
from rl_platform.sweepers.space import Space, shown

FILES = {"journal": "study.log", "sqlite": "study.db"}  # in the sweep's directory
_NAME = "sweep"
_RUNS, _PRUNED, _ERROR = "runs", "pruned", "error"  # what a trial knows besides Optuna's own
_WORDS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "queued",
}


@dataclass(frozen=True)
class Trial:
    """One setting.

    Attributes:
        number: from 0, in the order in which they were asked for.
        setting: key → value, as one would type it.
        state: running, finished, pruned or failed.
        values: of the objectives: at the end, of a pruned one as far as it got; empty if there are none.
        runs: the names of its run directories.
        pruned: why it is to end early; empty if it is not.
        error: why it failed.
    """

    number: int
    setting: dict[str, str]
    state: str
    values: list[float]
    runs: list[str]
    pruned: str
    error: str


class Study:
    """What one sweep has found so far, kept in its directory; every change is on the disk at once."""

    def __init__(self, folder: Path, config: Config, space: Space, look: bool = False) -> None:
        """Begin the study, or go on with the one that is there.

        Args:
            folder: the sweep's.
            config: of the sweeper.
            space: what is searched.
            look: take a copy of what there is, which may be nothing, and write nothing.

        Raises:
            UserError: the one that is there was made for other objectives.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.space = config, space
        self._storage = _copy(folder, config) if look else _storage(folder, config)
        self._study = optuna.create_study(
            storage=self._storage, study_name=_NAME, directions=config.directions, load_if_exists=True
        )
        if [d.name.lower() for d in self._study.directions] != config.directions:
            raise UserError(f"{folder} holds a study with other directions; start a new sweep.")

    @property
    def trials(self) -> list[Trial]:
        """All of them, in the order in which they were asked for."""
        return [self._described(trial) for trial in self._study.get_trials(deepcopy=False)]

    def ask(self) -> Trial:
        """Return a setting to try next.

        It depends on the seed and on what has been told before, not on how often the sweep was
        interrupted.
        """
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(self.config, self.config.seed + number)
        trial = self._study.ask(fixed_distributions=self.space.distributions)
        return self._described(self._frozen(trial.number))

    def begun(self, number: int, runs: Sequence[str]) -> None:
        """Remember the run directories of a trial: one for each seed."""
        self._set(number, _RUNS, list(runs))

    def report(self, number: int, curves: Sequence[Curve]) -> bool:
        """Take in how a trial's runs are doing; return whether it is to end early.

        Args:
            number: of the trial.
            curves: of each of its runs: (share of the training done, value of the objective) for each
                evaluation so far.
        """
        curve = pruning.mean_curve(curves)
        before = self._frozen(number).intermediate_values
        others = [self._curve(t) for t in self._study.get_trials(deepcopy=False) if t.number != number]
        reason = ""
        for length, (share, value) in enumerate(curve, 1):
            step = round(pruning.STEPS * share)  # Optuna's steps are whole numbers
            if step in before or not math.isfinite(value):
                continue
            self._storage.set_trial_intermediate_value(self._id(number), step, value)
            reason = reason or self._hopeless(curve[:length], others)
        if reason:
            self._set(number, _PRUNED, reason)
        return bool(reason)

    def tell(self, number: int, values: Sequence[float]) -> None:
        """Say what a trial was worth in the end, one value for each objective; mark it pruned if it was."""
        if self._frozen(number).user_attrs.get(_PRUNED):
            self._study.tell(number, state=TrialState.PRUNED)
        elif all(map(math.isfinite, values)):
            self._study.tell(number, list(values))
        else:
            self.fail(number, f"its objectives are {', '.join(map(str, values))}")

    def fail(self, number: int, error: str) -> None:
        """Say that a trial came to nothing."""
        self._set(number, _ERROR, error)
        self._study.tell(number, state=TrialState.FAIL)

    def best(self) -> list[Trial]:
        """The best setting, the first of equals; of several objectives all that no other beats in each."""
        found = [self._described(trial) for trial in self._study.best_trials]
        return found if len(self.config.objectives) > 1 else found[:1]

    def _hopeless(self, curve: Curve, others: Sequence[Curve]) -> str:
        """Why a trial is to end early; empty if it is not."""
        config = self.config
        if config.directions == ["minimize"]:
            curve, others = _negative(curve), [_negative(other) for other in others]
        share = curve[-1][0]
        if config.pruner == "median" and pruning.median_rule(
            curve, others, startup=config.startup_trials, warmup=config.warmup
        ):
            return f"below the median of the others after {share:.0%} of the training"
        if config.pruner == "asha" and pruning.asha_rule(
            curve,
            others,
            startup=config.startup_trials,
            reduction_factor=config.reduction_factor,
            min_fraction=config.min_fraction,
        ):
            return f"not among the best 1/{config.reduction_factor} after {share:.0%} of the training"
        return ""

    def _curve(self, trial: FrozenTrial) -> Curve:
        return [(step / pruning.STEPS, value) for step, value in sorted(trial.intermediate_values.items())]

    def _described(self, trial: FrozenTrial) -> Trial:
        told = trial.user_attrs
        return Trial(
            number=trial.number,
            setting={key: shown(value) for key, value in trial.params.items()},
            state=_WORDS[trial.state],
            values=list(trial.values or []),
            runs=list(told.get(_RUNS, [])),
            pruned=told.get(_PRUNED, ""),
            error=told.get(_ERROR, ""),
        )

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(_NAME)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)


def final_values(summary: Mapping[str, Any], objectives: Sequence[str]) -> list[float]:
    """Return the objectives of a run that has ended, out of its `summary.json`.

    Raises:
        UserError: it has no such number; the message says which there are.
    """
    evaluation = summary["eval"]
    found = []
    for name in objectives:
        key = _score(evaluation) if name == SCORE else name
        value = evaluation.get(key, summary.get(key))
        if value is None:
            have = [
                k
                for k, v in evaluation.items()
                if isinstance(v, int | float) and k not in ("seed", "num_envs")
            ]
            raise UserError(f"sweeper.objective={name}: this task's evaluations have {', '.join(have)}")
        found.append(float(value))
    return found


def intermediate_value(row: Mapping[str, Any], objective: str) -> float | None:
    """Return an objective out of a row of `metrics.jsonl`; None where nothing was evaluated then."""
    evaluation = {
        name.removeprefix("Eval/"): value for name, value in row.items() if name.startswith("Eval/")
    }
    if not evaluation:
        return None
    key = _score(evaluation) if objective == SCORE else objective.removeprefix("metrics/")
    value = evaluation.get(key)
    return None if value is None else float(value)


def _score(evaluation: Mapping[str, Any]) -> str:
    return next(key for key in EVALUATION if key in evaluation)


def _negative(curve: Curve) -> Curve:
    return [(share, -value) for share, value in curve]


def _storage(folder: Path, config: Config) -> BaseStorage:
    """Optuna's storage in a directory that may be shared by machines.

    The journal locks with links, which NFS has; SQLite's locks are only as good as the file system's.
    """
    file = folder / FILES[config.storage]
    if config.storage == "sqlite":
        return RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60.0}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(str(file)))


def _copy(folder: Path, config: Config) -> BaseStorage:
    """What the storage holds, in memory: beginning a study writes, even where there is one."""
    copy = InMemoryStorage()
    if (folder / FILES[config.storage]).exists():
        with suppress(KeyError):  # its search has not got further than making the file
            optuna.copy_study(from_study_name=_NAME, from_storage=_storage(folder, config), to_storage=copy)
    return copy


def _sampler(config: Config, seed: int) -> optuna.samplers.BaseSampler:
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if config.sampler == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)
