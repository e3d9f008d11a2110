"""When a training stops, and what is due after which iteration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# What says how long to train: one that is typed takes the place of the settings' own.
LIMITS = ("max_iterations", "total_env_steps", "stop_after_s")


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        iteration: iterations done.
        env_steps: environment steps, summed over environments and ranks.
        elapsed_s: seconds since the command was typed.
        iteration_s: seconds of the latest iteration, 0 before the first.
        score: mean return of the latest training episodes, None while too few have ended.
    """

    iteration: int
    env_steps: int
    elapsed_s: float
    iteration_s: float
    score: float | None


@dataclass(frozen=True)
class Schedule:
    """The limits (None: no such limit) and the intervals (iterations, 0: never) of a training.

    Attributes:
        max_iterations: iterations in all, those before a resume included.
        total_env_steps: environment steps in all, summed over environments and ranks.
        stop_after_s: wall-clock seconds from the command's start; an iteration that would not
            finish in time is not begun.
        score_to_win: mean training return that ends the training.
        save_interval: of checkpoints.
        save_best_after: iterations before which no checkpoint counts as the best.
        eval_interval: of evaluations.
        video_interval: of videos.
        log_interval: of metrics.
    """

    max_iterations: int | None
    total_env_steps: int | None
    stop_after_s: float | None
    score_to_win: float | None
    save_interval: int
    save_best_after: int
    eval_interval: int
    video_interval: int
    log_interval: int

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any]) -> Schedule:
        """Pick the keys of these names out of a run's configuration."""
        return cls(**{field.name: cfg[field.name] for field in fields(cls)})

    def limits(self) -> str:
        """Say when the training ends, in the words that change it on the command line."""
        numbers = {name: getattr(self, name) for name in (*LIMITS, "score_to_win")}
        said = [f"{name}={number:_}" for name, number in numbers.items() if number is not None]
        return " or ".join(said) or "somebody stops it"

    def reason_to_stop(self, now: Progress) -> str | None:
        """Say which limit is reached; None while there is more to do."""
        if self.max_iterations is not None and now.iteration >= self.max_iterations:
            return f"max_iterations={self.max_iterations} reached"
        if self.total_env_steps is not None and now.env_steps >= self.total_env_steps:
            return f"total_env_steps={self.total_env_steps:,} reached"
        if self.stop_after_s is not None and now.elapsed_s + now.iteration_s > self.stop_after_s:
            return f"stop_after_s={self.stop_after_s:g} reached"
        if self.score_to_win is not None and now.score is not None and now.score >= self.score_to_win:
            return f"score_to_win={self.score_to_win:g} reached: mean return {now.score:.4g}"
        return None

    def iterations(self, now: Progress) -> int | None:
        """How many iterations the limits on iterations and steps allow; None: these say nothing."""
        numbers = [] if self.max_iterations is None else [self.max_iterations]
        if self.total_env_steps is not None and now.env_steps:
            left = max(0, self.total_env_steps - now.env_steps)
            numbers.append(now.iteration + -(-left * now.iteration // now.env_steps))
        return min(numbers, default=None)

    def never_due(self, steps_per_iteration: int) -> list[str]:
        """Say which intervals, of evaluations and of videos, are longer than the whole training."""
        iterations = self.iterations(Progress(1, steps_per_iteration, 0.0, 0.0, None))
        return [
            f"{name}={interval} is more than this run's {iterations} iterations: no {what} before its end."
            for name, interval, what in (
                ("eval_interval", self.eval_interval, "evaluation"),
                ("video_interval", self.video_interval, "video"),
            )
            if iterations is not None and interval > iterations
        ]

    def fraction_done(self, now: Progress) -> float:
        """Return how much of the training is done, in [0, 1], by the limit that is nearest."""
        limits = (
            (now.iteration, self.max_iterations),
            (now.env_steps, self.total_env_steps),
            (now.elapsed_s, self.stop_after_s),
        )
        return min(1.0, max((done / limit for done, limit in limits if limit), default=0.0))


def is_due(interval: int, iteration: int) -> bool:
    """Whether something with this interval (iterations, 0: never) happens after `iteration`."""
    return interval > 0 and iteration % interval == 0
