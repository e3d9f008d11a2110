"""The training loop: collect → update → log → checkpoint → evaluate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rl_platform import distributed, nan_dump, seeding, sharding
from rl_platform.algos.base import Algorithm
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import NonFiniteError
from rl_platform.loggers.base import Logger
from rl_platform.loggers.console import Console
from rl_platform.run_dir import CheckpointError, RunDir
from rl_platform.schedule import Progress, Schedule, is_due
from rl_platform.scores import EpisodeScores, Score, merge_logs
from rl_platform.signals import SIGNALS, Interrupted, StopSignal
from rl_platform.timing import PHASES

Policy = Callable[[dict[str, Tensor]], Tensor]
SCORE_WINDOW = 100  # episodes, at least


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        reason: the limit that was reached, or the signal.
        iteration, env_steps, wall_s: as in `Trainer`, at the end.
        best_score, best_iteration: success rate and mean return of the state in `best.pt`, and when it was.
    """

    reason: str
    iteration: int
    env_steps: int
    wall_s: float
    best_score: Score | None = None
    best_iteration: int = 0


@dataclass
class Session:
    """What a training needs besides its environment and its algorithm.

    Attributes:
        schedule: the limits and the intervals.
        run_dir: where checkpoints go.
        loggers: where metrics go.
        console: where the user looks.
        stop: becomes true when somebody asks for a stop.
        started: when the command was typed, s of `time.monotonic()`.
        evaluate: plays the policy on its own environments; returns metrics named `Eval/…`. May raise
            Interrupted, as the next.
        record: makes a video of the policy after this iteration; None if that was impossible.
        random_episode_start: begin at random points of the episode.
        on_step: called after every step of the environments (a viewer draws there).
    """

    schedule: Schedule
    run_dir: RunDir
    loggers: Logger
    console: Console
    stop: StopSignal
    started: float
    evaluate: Callable[[Policy], dict[str, float]]
    record: Callable[[Policy, int], Path | None]
    random_episode_start: bool = False
    on_step: Callable[[], None] = _nothing


class Trainer:
    """Trains an algorithm on an environment until a limit of the schedule, or a signal.

    Several ranks take the same steps at the same time, each with its own part of the environments. What is
    decided by the clock is decided by rank 0's; only rank 0 writes checkpoints.

    Attributes:
        iteration: iterations done, those before a resume included.
        env_steps: environment steps, summed over environments and ranks.
        wall_s: seconds since the command was typed, those of earlier sittings included.
    """

    def __init__(self, env: VectorEnv, algo: Algorithm, session: Session) -> None:
        """Start a new training; `load_state_dict` turns it into the continuation of an old one."""
        self.env, self.algo, self.session = env, algo, session
        self.iteration, self.env_steps = 0, 0
        self._earlier_s = 0.0  # wall time of the sittings before this one
        self._iteration_s = 0.0
        self._envs = distributed.shard(env.num_envs)
        self._scores = EpisodeScores(window=max(SCORE_WINDOW, self._envs.total))
        self._best_score: Score | None = None
        self._best_iteration = 0
        self._best: tuple[int, dict[str, Any]] | None = None  # this rank's part of it
        self._unwritten: tuple[int, dict[str, Any]] | None = None  # the whole, if the disk did not take it
        self._now = Progress(0, 0, 0.0, 0.0, None)  # when it was last decided to go on
        self._saved = -1
        self._obs: dict[str, Tensor] = {}
        self._actions: list[Tensor] = []

    @property
    def wall_s(self) -> float:
        """See the class."""
        return self._earlier_s + time.monotonic() - self.session.started

    def fit(self) -> Outcome:
        """Train, save, and say how it ended.

        Raises:
            NonFiniteError: with the name of the term and the command that shows it again.
            CheckpointError: the last checkpoint could not be written.
        """
        if not self._obs:
            self._obs = self.env.reset()
            if self.session.random_episode_start:
                self.env.randomize_episode_lengths()
        if told := self.algo.beginning():
            self.session.console.message(told)
        while (reason := self._reason_to_stop()) is None:
            self._iterate()
        if not self._is_saved():
            self._save()
        return Outcome(
            reason, self.iteration, self.env_steps, self.wall_s, self._best_score, self._best_iteration
        )

    def _iterate(self) -> None:
        """One iteration; a newcomer may begin here."""
        start = time.monotonic()
        self.algo.set_progress(self.session.schedule.fraction_done(self._now))
        collection_s = self._collect()
        losses, learning_s = self._learn()
        self.iteration += 1
        steps = self.algo.rollout_steps * self._envs.total
        self.env_steps += steps
        with self.env.timer("waiting"):
            everyones = distributed.everyones((self.env.episode_log(), losses))
        self._scores.add(merge_logs([log for log, _ in everyones]))
        losses = {k: sum(own[k] for _, own in everyones) / len(everyones) for k in losses}
        self._iteration_s = time.monotonic() - start
        speed = {
            "Perf/steps_per_s": steps / (collection_s + learning_s),
            "Perf/collection_time_s": collection_s,
            "Perf/learning_time_s": learning_s,
            "Time/iteration_s": self._iteration_s,
        }
        self._log(losses | speed)
        self._remember_best()
        self._save_if_due()

    def _collect(self) -> float:
        """Act `rollout_steps` times in every environment; return the seconds it took."""
        start = time.monotonic()
        before, self._actions = self.env.state_dict(), []
        try:
            for _ in range(self.algo.rollout_steps):
                self._step()
            with self.env.timer("waiting"):
                self.env.check()
        except NonFiniteError as error:
            if not self.env.exact_resume:
                raise  # there is no state that could be looked at again
            raise nan_dump.save(self.session.run_dir, before, self._actions, error) from error
        return time.monotonic() - start

    def _step(self) -> None:
        with self.env.timer("policy"):
            action = self.algo.act(self._obs)
        self._actions.append(action)
        self._obs, reward, terminated, truncated, info = self.env.step(action)
        with self.env.timer("policy"):
            self.algo.observe(reward, terminated, truncated, info["final_obs"])
        self.session.on_step()

    def _learn(self) -> tuple[dict[str, float], float]:
        """Update the algorithm; return its losses and the seconds it took."""
        start = time.monotonic()
        try:
            with self.env.timer("learning"):
                losses = self.algo.update(self._obs)
            bad = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise NonFiniteError(", ".join(bad))
        except NonFiniteError as error:
            raise nan_dump.explain_loss(self.session.run_dir, self.iteration + 1, error) from error
        return losses, time.monotonic() - start

    def _log(self, metrics: dict[str, float]) -> None:
        """Hand on what is due after this iteration: metrics, an evaluation, a video."""
        session, schedule = self.session, self.session.schedule
        if is_due(schedule.eval_interval, self.iteration):
            with suppress(Interrupted):  # the next decision is to stop
                metrics |= session.evaluate(self.algo.policy)
        if is_due(schedule.log_interval, self.iteration):
            # The seconds of logging are those of the previous time: these are not over yet.
            phases = self.env.timer.pop()
            metrics |= {f"Perf/{phase}_s": phases.get(phase, 0.0) for phase in PHASES}
            metrics |= self._scores.pop() | {"Time/wall_s": self.wall_s, "Time/iteration": self.iteration}
            with self.env.timer("logging"):
                session.loggers.log(metrics, self.env_steps)
                session.console.iteration(metrics, self.iteration, self.env_steps)
        if is_due(schedule.video_interval, self.iteration):
            with suppress(Interrupted):
                video = session.record(self.algo.policy, self.iteration)
                if video is not None:
                    session.loggers.log_video("policy", video, self.env_steps)

    def _remember_best(self) -> None:
        """Keep a copy of the best state so far; `_save` writes it, so that a good spell costs no disk."""
        score = self._scores.score
        if score is None or self.iteration < self.session.schedule.save_best_after:
            return
        if self._best_score is None or score > self._best_score:
            self._best_score, self._best_iteration = score, self.iteration
            self._best = self.iteration, copy.deepcopy(self.state_dict(whole=False))

    def _save_if_due(self) -> None:
        """Save at the interval; training goes on without if the disk does not take it."""
        if not is_due(self.session.schedule.save_interval, self.iteration):
            return
        try:
            self._save()
        except CheckpointError as error:
            self.session.console.message(f"{error} Training goes on; earlier checkpoints are intact.")

    def _save(self) -> None:
        """Write the best state, if there is a new one, and the present one: rank 0 does, for all."""
        with self.env.timer("logging"):
            iteration, best = self._best or (0, {})
            self._best = None
            parts = distributed.gather((best, self.state_dict()))
            if parts is None:
                self._saved = self.iteration
                return
            run_dir = self.session.run_dir
            if best:
                self._unwritten = iteration, sharding.join([part for part, _ in parts])
            if self._unwritten is not None:
                iteration, best = self._unwritten
                run_dir.save_checkpoint(best, iteration, best=True)
                self._unwritten = None
            path = run_dir.save_checkpoint(sharding.join([part for _, part in parts]), self.iteration)
            self._saved = self.iteration
            run_dir.update_state(iteration=self.iteration, env_steps=self.env_steps)
            self.session.console.message(f"Saved checkpoint to: {path}")

    def _is_saved(self) -> bool:
        """Whether rank 0 has written the present state."""
        return not any(distributed.totals([float(self._saved < self.iteration)]))

    def _reason_to_stop(self) -> str | None:
        """Which limit is reached, by rank 0's clock; or who asks for a stop, at any rank or by a request."""
        stop, leads = self.session.stop, distributed.rank() == 0
        request = self.session.run_dir.take_stop_request() if leads and stop.received is None else None
        clock = (time.monotonic() - self.session.started, self._iteration_s, float(request is not None))
        own = clock if leads else (0.0, 0.0, 0.0)
        signals = [float(stop.received == number) for number in SIGNALS]
        with self.env.timer("waiting"):
            elapsed_s, iteration_s, requested, *times = distributed.totals([*own, *signals])
        self._now = Progress(self.iteration, self.env_steps, elapsed_s, iteration_s, self._scores.mean_return)
        for number, received in zip(SIGNALS, times, strict=True):
            if received:
                stop.received = stop.received or number
                return f"{number.name} received"
        if requested:
            return request or "rank 0 was asked to stop"
        return self.session.schedule.reason_to_stop(self._now)

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """Return what an exact continuation of this rank needs, live; `whole`: see `Algorithm`."""
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "wall_s": self.wall_s,
            "algo": self.algo.state_dict(whole),
            "env": self.env.state_dict(),
            "obs": self._obs,
            "scores": self._scores.state_dict(),
            "best_score": self._best_score,
            "best_iteration": self._best_iteration,
            "loggers": self.session.loggers.state_dict(),
            "rng": seeding.rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a whole state, as it was saved; the loggers are given theirs when they are made."""
        state = sharding.part(state, self._envs.start, self._envs.size, self._envs.total)
        self.iteration, self.env_steps = state["iteration"], state["env_steps"]
        self._saved = self.iteration
        self._earlier_s = state["wall_s"]
        self.algo.load_state_dict(state["algo"])
        self.env.load_state_dict(state["env"])
        if self.env.exact_resume:
            self._obs = {group: rows.to(self.env.device) for group, rows in state["obs"].items()}
        else:
            self._obs = self.env.reset()
            self.session.console.message(
                "The state of these environments cannot be saved: all of them start new episodes."
            )
        self._scores.load_state_dict(state["scores"])
        self._best_score = state["best_score"]
        self._best_iteration = state.get("best_iteration", 0)  # not in checkpoints of 2026-11
        seeding.set_rng_state(state["rng"])
