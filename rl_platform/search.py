"""A sweep whose next settings depend on what the last ones were worth: `sweeper=optuna`.

Asks the study for settings, has the launcher run them, reads their run directories, tells the study. The
jobs know nothing of it, and may be anywhere that shares the disk: a hopeless one is asked to end by a file
in its directory.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from rl_platform import atomic, config, multirun, provenance, slurm
from rl_platform.composition import Composer, Job, raise_problems
from rl_platform.errors import UserError
from rl_platform.multirun import RunLauncher
from rl_platform.run_dir import RunDir
from rl_platform.schedule import Progress, Schedule
from rl_platform.schema import validate
from rl_platform.search_report import report, result
from rl_platform.signals import StopSignal
from rl_platform.states import ENDED, state_of
from rl_platform.sweep_dir import SweepDir
from rl_platform.sweepers.optuna import Config
from rl_platform.sweepers.pruning import Curve
from rl_platform.sweepers.space import SEED, Space
from rl_platform.sweepers.study import Study, Trial, final_values, intermediate_value

MARKER = "search.json"  # beside sweep.json: how to go on
_LOCK = ".search.lock"


def run(composer: Composer, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> int:
    """Search as a command line says; return the exit status.

    Raises:
        UserError: something in it cannot be run; nothing was made then.
    """
    typed = composer.typed(overrides)
    space = Space.of(typed)
    jobs = [job for corner in space.corners() for job in _jobs(composer, typed, space, corner)[:1]]
    configs = multirun.check_jobs(jobs)
    settings = Config(**configs[0]["sweeper"])
    launcher = multirun.make_launcher(composer, jobs[0], configs[0]["launcher"])
    launcher.check(configs)
    sweep = SweepDir.create(jobs[0].sweep_directory(), configs[0]["launcher"])
    sweep.save()
    plan = {"overrides": list(overrides), "config_dirs": list(config_dirs)}
    atomic.write_text(sweep.path / MARKER, json.dumps(plan, indent=1) + "\n")
    return Search(composer, typed, settings, launcher, sweep).run()


def look(sweep: SweepDir) -> tuple[list[Override], Study]:
    """Return what a search's settings are composed with, and its study as it is now.

    Nothing is written, and nothing is asked of this machine: neither a device nor that it may write.

    Raises:
        UserError: the command that made it does not compose any more.
    """
    _, typed, first = _composed(sweep)
    settings, problems = validate(Config, config.resolved(first.config)["sweeper"], "sweeper")
    if settings is None or problems:
        raise_problems(problems)
    return typed, Study(sweep.path, settings, Space.of(typed), look=True)


def go_on(sweep: SweepDir, n_trials: int | None) -> int:
    """Go on with a search that was interrupted, or with more settings; return the exit status.

    Raises:
        UserError: the command that made it does not compose any more, or cannot be run here.
    """
    composer, typed, first = _composed(sweep)
    (cfg,) = multirun.check_jobs([first])
    settings = Config(**cfg["sweeper"])
    settings = replace(settings, n_trials=n_trials or settings.n_trials)
    job = composer.compose([f"launcher={sweep.launcher['name']}"])
    launcher = multirun.make_launcher(composer, job, sweep.launcher)
    launcher.check([cfg])
    return Search(composer, typed, settings, launcher, sweep).run()


def _composed(sweep: SweepDir) -> tuple[Composer, list[Override], Job]:
    """Compose a search's command anew, and one of its jobs."""
    plan = json.loads((sweep.path / MARKER).read_bytes())
    composer = Composer(plan["config_dirs"])
    typed = composer.typed(plan["overrides"])
    space = Space.of(typed)
    return composer, typed, _jobs(composer, typed, space, next(space.corners()))[0]


class Search:
    """A search in progress.

    Attributes:
        study: what is known so far.
    """

    def __init__(
        self,
        composer: Composer,
        typed: Sequence[Override],
        settings: Config,
        launcher: RunLauncher,
        sweep: SweepDir,
    ) -> None:
        """Begin or go on in a sweep's directory; `typed` is what its settings are composed with."""
        self._composer, self._typed = composer, typed
        self._settings, self._launcher, self._sweep = settings, launcher, sweep
        self.study = Study(sweep.path, settings, Space.of(typed))
        self._runs = {entry.run.path.name: entry.run for entry in sweep.entries}
        self._seen: dict[str, tuple[int, Curve]] = {}  # run → how long its metrics.jsonl was, and its curve
        self._schedules: dict[str, Schedule] = {}
        self._suspects: set[int] = set()  # trials that seemed to have come to nothing at the last look

    def run(self) -> int:
        """Try settings until there are enough; return the exit status."""
        look = provenance.run("sweep", self._sweep.path)
        with _alone(self._sweep.path), StopSignal(on_abort=self._launcher.kill) as stop:
            print(f"{self._settings.n_trials} settings to try in {self._sweep.path}", flush=True)
            self._take_up()
            complete = self._loop(stop)
            if stop and not self._launcher.survives:
                print(f"\n{stop.received.name}: the running jobs save and end.", flush=True)  # type: ignore[union-attr]
                self._launcher.stop()
                self._look()
        print(f"\n{report(self.study, self._typed)}")
        if not complete:
            print(f"Go on with: {look} --continue")
            return stop.exit_code if stop else 1
        return 0 if self.study.best() else 1

    def _loop(self, stop: StopSignal) -> bool:
        """Ask, start, look, tell; return whether all settings have been tried."""
        while not stop:
            begun = self._fill()
            if not self._open():
                return True
            busy = self._launcher.poll()
            told = self._look()
            if not (begun or busy or told):
                return False  # jobs that ended without a result, and could go on: preempted here
            time.sleep(self._launcher.poll_s)
        return False

    def _open(self) -> list[Trial]:
        """The trials that have not ended."""
        return [trial for trial in self.study.trials if trial.state == "running"]

    def _fill(self) -> bool:
        """Start new trials while there is room; return whether there was one."""
        begun = False
        while len(self.study.trials) < self._settings.n_trials and len(self._open()) < self._room():
            self._begin(self.study.ask())
            begun = True
        return begun

    def _room(self) -> int:
        """How many settings are tried at the same time.

        By default as many as keep the launcher busy, but a third of all at most: the others learn from them.
        """
        busy = math.ceil(self._launcher.slots / max(1, len(self.study.space.seeds)))
        return self._settings.n_jobs or min(busy, max(1, self._settings.n_trials // 3))

    def _begin(self, trial: Trial) -> None:
        """Make a trial's runs, one for each seed, and start them."""
        jobs = _jobs(self._composer, self._typed, self.study.space, trial.setting)
        problems = [str(p) for job in jobs for p in config.find_job_problems(job)[1]]
        if problems:
            self.study.fail(trial.number, "\n".join(dict.fromkeys(problems)))
            self._tell(trial.number)
            return
        configs = multirun.check_jobs(jobs)
        runs = [self._make_run(job, cfg) for job, cfg in zip(jobs, configs, strict=True)]
        self._sweep.save()
        self.study.begun(trial.number, [run.path.name for run in runs])
        words = " ".join(f"{key}={value}" for key, value in trial.setting.items())
        print(f"{time.strftime('%H:%M:%S')}  trial {trial.number}: {words}", flush=True)
        self._launcher.submit(self._sweep.path, runs)

    def _make_run(self, job: Job, cfg: dict[str, Any]) -> RunDir:
        if self._settings.pruner != "none":
            cfg["logger"]["files"] = {}  # the evaluations are read from metrics.jsonl
        number = len(self._sweep.entries)
        while (path := self._sweep.path / job.name_in_sweep(number)).exists():
            number += 1  # left by a search that was killed before it had written that down
        run = multirun.queue_run(path, cfg, job)
        self._sweep.add(run, job.varied)
        self._runs[run.path.name] = run
        return run

    def _take_up(self) -> None:
        """Start again what an interrupted search has left unfinished, and what nobody has started."""
        jobs = functools.cache(slurm.active_jobs)
        for trial in self._open():
            if not trial.runs:
                self._begin(trial)
                continue
            idle = []
            for run in (self._runs[name] for name in trial.runs):
                waits = run.slurm_job in (jobs() or {})
                if state_of(run, jobs=jobs) not in ("finished", "failed", "running") and not waits:
                    idle.append(run)
            for run in idle:
                run.wait_again()  # a killed one would be looked at before its new process has begun
                if trial.pruned:
                    # It may have taken the first request, and not come to its end.
                    run.request_stop(f"pruned: {trial.pruned}")
            if idle:
                self._launcher.submit(self._sweep.path, idle)

    def _look(self) -> bool:
        """See how the open trials are: end hopeless ones, tell the study of those that have ended.

        A run has to be found killed or cancelled twice in a row: files may be seen later than that a process
        is gone, and a queue may start the job again.

        Returns:
            Whether a trial has ended, or seems to.
        """
        jobs = functools.cache(slurm.active_jobs)
        suspects, self._suspects = self._suspects, set()
        told = False
        for trial in self._open():
            runs = [self._runs[name] for name in trial.runs]
            states = [state_of(run, jobs=jobs) for run in runs]
            if all(state in ENDED for state in states):
                if {"killed", "cancelled"} & set(states) and trial.number not in suspects:
                    self._suspects.add(trial.number)
                else:
                    self._end(trial, runs, states)
                told = True
            elif self._settings.pruner != "none" and not trial.pruned:
                self._prune(trial, runs, states)
        return told

    def _prune(self, trial: Trial, runs: Sequence[RunDir], states: Sequence[str]) -> None:
        if self.study.report(trial.number, [self._curve(run) for run in runs]):
            reason = f"pruned: {self.study.trials[trial.number].pruned}"
            for run, state in zip(runs, states, strict=True):
                if state not in ENDED:
                    run.request_stop(reason)
            print(f"{time.strftime('%H:%M:%S')}  trial {trial.number}: {reason}", flush=True)

    def _curve(self, run: RunDir) -> Curve:
        """A run's evaluations so far; read again only when its metrics have grown."""
        name = run.path.name
        size = run.metrics_jsonl.stat().st_size if run.metrics_jsonl.exists() else 0
        if name not in self._seen or self._seen[name][0] != size:
            if name not in self._schedules:
                self._schedules[name] = Schedule.from_config(run.load_config())
            rows = run.read_metrics()
            self._seen[name] = size, curve(rows, self._schedules[name], self._settings.objectives[0])
        return self._seen[name][1]

    def _end(self, trial: Trial, runs: Sequence[RunDir], states: Sequence[str]) -> None:
        """Tell the study what a trial was worth: the mean over its seeds."""
        for run in runs:
            run.take_stop_request()  # it came too late, and is not for whoever resumes the run
        bad = [
            multirun.failure(run, state)
            for run, state in zip(runs, states, strict=True)
            if state != "finished"
        ]
        try:
            if bad:
                raise UserError("\n".join(bad))
            values = [
                final_values(json.loads(run.summary_json.read_bytes()), self._settings.objectives)
                for run in runs
            ]
        except UserError as error:
            self.study.fail(trial.number, str(error))
        else:
            self.study.tell(trial.number, [sum(column) / len(values) for column in zip(*values, strict=True)])
        self._tell(trial.number)

    def _tell(self, number: int) -> None:
        trial = self.study.trials[number]
        told = trial.error.strip() or result(self.study, trial)
        print(f"{time.strftime('%H:%M:%S')}  trial {number}: {trial.state}, {told}", flush=True)


def curve(rows: Sequence[Mapping[str, Any]], schedule: Schedule, objective: str) -> Curve:
    """Return the evaluations in a run's metrics: (share of the training done, value)."""
    found = []
    for row in rows:
        value = intermediate_value(row, objective)
        if value is not None:
            iteration, elapsed_s = int(row["Time/iteration"]), float(row["Time/wall_s"])
            now = Progress(iteration, int(row["env_steps"]), elapsed_s, 0.0, None)
            found.append((schedule.fraction_done(now), value))
    return found


def _jobs(
    composer: Composer, typed: Sequence[Override], space: Space, setting: Mapping[str, str]
) -> list[Job]:
    """Compose a setting's jobs: one for each seed, or one with the seed that was typed."""
    seeds: Sequence[dict[str, str]] = [{SEED: seed} for seed in space.seeds] or [{}]
    return [composer.setting(typed, {**setting, **seed}) for seed in seeds]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold what only one process may hold: two would start the same trials.

    Raises:
        UserError: another process searches here.
    """
    import fcntl

    with open(folder / _LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is searching here.") from error
        yield
