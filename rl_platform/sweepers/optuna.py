"""`sweeper=optuna`: Optuna chooses what to try next by what was found so far."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rl_platform.errors import UserError
from rl_platform.schema import nearest

# What every evaluation has, and what a run's summary has beside it.
EVALUATION = ("success_rate", "return_mean", "return_std", "episode_length_mean", "success_rate_2cm")
SUMMARY = ("env_steps", "wall_time_s", "steps_per_s", "iteration")
SCORE = "score"  # success_rate where the task has one, else return_mean

Direction = Literal["maximize", "minimize"]


def require_optuna() -> None:
    """Raise a UserError if Optuna is not installed; to be called before `rl_platform.search` is imported."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("sweeper=optuna needs Optuna: pip install -c constraints.txt -e '.[optuna]'")


@dataclass
class Config:
    """`sweeper=optuna`.

    Attributes:
        name: optuna.
        n_trials: settings to try in all, the failed and the pruned ones included.
        n_jobs: settings tried at the same time, each with all its seeds; None for as many as keep the
            launcher busy (the jobs that it runs at once, divided by the seeds and rounded up), but a third
            of `n_trials` at most.
        objective: what a setting is worth; several for a Pareto front.
        direction: maximize or minimize; one for each objective.
        sampler: how the next setting is chosen.
        seed: of the sampler.
        pruner: how hopeless settings are found before their end.
        startup_trials: others that must have got as far before one is pruned.
        warmup: share of the training before which the median rule prunes nothing.
        reduction_factor: of ASHA: one setting in so many gets past a rung.
        min_fraction: of ASHA: share of the training at the lowest rung.
        storage: where the study is kept, in the sweep's directory.
    """

    name: str
    n_trials: int
    n_jobs: int | None
    objective: str | list[str]
    direction: Direction | list[Direction]
    sampler: Literal["tpe", "random", "nsgaii"]
    seed: int
    pruner: Literal["none", "median", "asha"]
    startup_trials: int
    warmup: float
    reduction_factor: int
    min_fraction: float
    storage: Literal["journal", "sqlite"]

    @property
    def objectives(self) -> list[str]:
        """What a setting is worth, as a list."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def directions(self) -> list[Direction]:
        """One for each objective."""
        return [self.direction] if isinstance(self.direction, str) else list(self.direction)

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        for key, minimum in (("n_trials", 1), ("n_jobs", 1), ("startup_trials", 1), ("reduction_factor", 2)):
            value = getattr(self, key)
            if value is not None and value < minimum:
                yield key, f"must be at least {minimum}, got {value}"
        if not 0 <= self.warmup < 1:
            yield "warmup", f"is a share of the training and must be in [0, 1), got {self.warmup}"
        if not 0 < self.min_fraction < 1:
            yield "min_fraction", f"is a share of the training and must be in (0, 1), got {self.min_fraction}"
        yield from self._check_objectives()

    def _check_objectives(self) -> Iterator[tuple[str, str]]:
        known = (SCORE, *EVALUATION, *SUMMARY)
        for name in self.objectives:
            if name not in known and not name.startswith("metrics/"):
                match = nearest(name, known)
                meant = f"; did you mean {match}?" if match else ""
                yield "objective", f"must be one of {', '.join(known)} or metrics/<name>, got {name}{meant}"
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            yield "objective", "must name at least one, and each once"
        if len(self.directions) != len(self.objectives):
            counts = f"{len(self.objectives)} objectives and {len(self.directions)} directions"
            yield "direction", f"there is one for each objective, got {counts}"
        if self.pruner != "none" and len(self.objectives) > 1:
            yield "pruner", f"must be none with several objectives, got {self.pruner}"
        if self.pruner != "none" and set(self.objectives) & set(SUMMARY):
            yield "pruner", f"must be none: {self.objectives[0]} says little before a training ends"
