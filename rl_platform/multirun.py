"""Runs in processes of their own: checked and made first, all of them, then started by a launcher."""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from rl_platform import agreement, config, provenance, registry, slurm, suggest
from rl_platform.composition import Composer, Job, raise_problems
from rl_platform.errors import UserError
from rl_platform.run_dir import RunDir
from rl_platform.schema import Problem, shown
from rl_platform.signals import StopSignal
from rl_platform.states import ENDED, UNSUCCESSFUL, state_of
from rl_platform.sweep_dir import SweepDir
from rl_platform.sweep_table import report

_TAIL_LINES = 15  # of a failed job's log


# What a run's networks are made of, beside the task's sizes.
NETWORKS = (
    "agent.name",
    *(f"agent.{part}.{key}" for part in ("actor", "critic") for key in ("hidden_sizes", "activation")),
    "agent.actor.std_type",
    "agent.normalize_obs",
    "algo.normalize_value",
)


class RunLauncher(Protocol):
    """Starts runs. A Hydra launcher plugin of ours has one as its attribute `platform`.

    Attributes:
        slots: jobs at a time.
        poll_s: s between two looks at how the jobs are.
        shows_output: what a job prints appears here, too.
        survives: the jobs go on without this process.
        wait: stay until all jobs have ended.
    """

    slots: int
    poll_s: float
    shows_output: bool
    survives: bool
    wait: bool

    def check(self, configs: Sequence[Mapping[str, Any]]) -> None:
        """Raise a UserError if runs with these configurations cannot be started; nothing exists yet."""
        ...

    def submit(self, home: Path, runs: Sequence[RunDir]) -> None:
        """Take in runs that nobody trains; `home` is the sweep's directory, or the single run's."""
        ...

    def poll(self) -> bool:
        """Start what there is room for, look after what runs; return whether something is left to do."""
        ...

    def stop(self) -> None:
        """Let the running jobs save and end, and wait for that; start no more."""
        ...

    def kill(self) -> None:
        """End the running jobs at once."""
        ...


def make_launcher(composer: Composer, job: Job, settings: Mapping[str, Any]) -> RunLauncher:
    """Let Hydra make the launcher that a job's configuration chooses.

    Args:
        composer: that composed the job.
        job: for Hydra's node, which names the plugin.
        settings: the checked keys of the group launcher.

    Raises:
        UserError: it is not a launcher of this platform's.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    target = job.hydra.launcher._target_
    node = {"hydra": {"launcher": {"_target_": target, "settings": dict(settings)}}}
    context = HydraContext(config_loader=composer.hydra.config_loader, callbacks=Callbacks())
    try:
        plugin = Plugins.instance().instantiate_launcher(context, _no_task, OmegaConf.create(node))
        return plugin.platform  # type: ignore[attr-defined]
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(
            f"launcher={settings['name']}: Hydra's launcher {target} cannot start runs of this platform; "
            f"write launcher=local. ({cause})"
        ) from error


def _no_task(cfg: DictConfig) -> None:
    raise UserError("Runs are started from their directories.")


def check_jobs(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Check all jobs and draw the seeds that are to be drawn; return their configurations.

    Raises:
        UserError: lists the mistakes of all of them; or names an `init_from` that is no run.
    """
    found = [config.find_job_problems(job) for job in jobs]
    if problems := [problem for _, own in found for problem in own]:
        raise_problems(problems)
    configs = [checked for checked, _ in found]
    others = [job for job in jobs if job.config.agent.name not in config.OUR_AGENTS]
    for line in dict.fromkeys(agreement.changes(config.resolved(job.config)) for job in others):
        if line:
            print(line, flush=True)
    first_config = functools.cache(lambda path: config.resolved(RunDir.open(path).load_config()))
    for cfg in configs:
        config.draw_seed(cfg)
        if cfg["init_from"] is not None:
            if problems := list(_other_networks(cfg, first_config(cfg["init_from"]))):
                raise_problems(problems)
            first = RunDir.open(cfg["init_from"])
            cfg["init_from"] = str((first.chosen or first.path).resolve())  # a job may run elsewhere
    return configs


def _other_networks(cfg: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Problem]:
    """Say where the networks of a run cannot be those of `init_from`, whose configuration is `theirs`."""
    pairs = {key: (suggest.lookup(cfg, key), suggest.lookup(theirs, key)) for key in NETWORKS}
    pairs = {key: (mine, other) for key, (mine, other) in pairs.items() if mine != other}
    tasks = [registry.env_label(own["env"]) for own in (cfg, theirs)]
    if pairs and tasks[0] != tasks[1]:
        told = f"is a run of env={tasks[1]}, whose networks do not fit env={tasks[0]}"
        yield Problem("init_from", told, "name a run of this task")
        return
    if "agent.name" in pairs:
        mine, other = pairs["agent.name"]
        told = f"is a run of agent={other}, whose networks agent={mine} cannot take over"
        yield Problem("init_from", told, f"write agent={other}")
        return
    for key, (mine, other) in pairs.items():
        said = "nothing of that name" if other is suggest.ABSENT else shown(other)
        told = f"is {shown(mine)}, and the run of init_from has {said}"
        yield Problem(key, told, "" if other is suggest.ABSENT else f"write {key}={said}")


def queue_run(directory: Path, cfg: Mapping[str, Any], job: Job) -> RunDir:
    """Make a run's directory with its complete configuration: whatever changes later does not change it."""
    # The options as they were typed: lift_isaac, where the configuration only has the module's name.
    choices = job.choices
    words = {group: choices[group] for group in ("env", "agent", "algo")}
    if "id" in cfg["env"]:
        words["env"] = registry.env_label(cfg["env"])
    return RunDir.create(directory.parent, directory.name, cfg, seed=cfg["seed"], **words)


def run_sweep(composer: Composer, overrides: Sequence[str]) -> int:
    """Make a sweep and start it; return the exit status.

    Raises:
        UserError: a job is refused, or its launcher refuses; nothing was made then.
    """
    with _all_needed():
        jobs = composer.sweep(overrides)
        configs = check_jobs(jobs)
        launcher = make_launcher(composer, jobs[0], configs[0]["launcher"])
        launcher.check(configs)
        sweep = make_sweep(jobs, configs)
    return start(launcher, sweep, sweep.runs)


@contextmanager
def _all_needed() -> Iterator[None]:
    """Make what lives as long as this process; looking for garbage in it takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def make_sweep(jobs: Sequence[Job], configs: Sequence[Mapping[str, Any]]) -> SweepDir:
    """Make a sweep's directory and those of all its runs, queued."""
    sweep = SweepDir.create(jobs[0].sweep_directory(), configs[0]["launcher"])
    for number, (job, cfg) in enumerate(zip(jobs, configs, strict=True)):
        sweep.add(queue_run(sweep.path / job.name_in_sweep(number), cfg, job), job.varied)
    sweep.save()
    return sweep


def start(launcher: RunLauncher, sweep: SweepDir, runs: Sequence[RunDir]) -> int:
    """Start some of a sweep's runs, wait if the launcher does, and show the table; return the exit status."""
    print(f"{len(runs)} jobs in {sweep.path}", flush=True)
    launcher.submit(sweep.path, runs)
    look = provenance.run("sweep", sweep.path)
    if not launcher.wait:
        print(f"The jobs are queued. See how they are: {look}")
        return 0
    stopped = follow(launcher, runs)
    if stopped is not None and launcher.survives:
        print(f"\nThe jobs go on without this command. See how they are: {look}")
        return stopped
    slurm.active_jobs_once.cache_clear()
    print(f"\n{report(sweep)}")
    states = {run.path: state_of(run) for run in runs}
    good = sum(state == "finished" for state in states.values())
    print(f"\n{good} of {len(runs)} jobs finished")
    for run in runs:
        if states[run.path] in UNSUCCESSFUL:
            print(f"  {failure(run, states[run.path])}")
    if stopped is not None:
        print(f"Go on with: {look} --continue")
        return stopped
    again = {"--retry-failed": UNSUCCESSFUL, "--continue": ("queued", "preempted")}
    if options := [option for option, of in again.items() if set(of) & set(states.values())]:
        print(f"Start these again: {look} {' '.join(options)}")
    else:
        print(f"This table again: {look}  (--jobs: and a line for each job)")
    sys.stdout.flush()
    return 0 if good == len(runs) else 1


def run_alone(launcher: RunLauncher, run: RunDir) -> int:
    """Start a single run with a launcher; return the exit status."""
    launcher.submit(run.path, [run])
    if not launcher.wait:
        print(f"The job is queued. See how it is: {provenance.run('list', 'runs', run.path)}")
        return 0
    stopped = follow(launcher, [run])
    if stopped is not None:
        return stopped
    return 0 if state_of(run, jobs=slurm.active_jobs) == "finished" else 1


def follow(launcher: RunLauncher, runs: Sequence[RunDir]) -> int | None:
    """Wait until all runs have ended, with a line for each change of a state.

    Returns:
        None; or, after a signal, the exit status: running jobs that need this process were asked to
        save and end, and the others left in the queue.
    """
    watch = Watch(runs, quiet=launcher.shows_output)
    with StopSignal(on_abort=launcher.kill) as stop:
        while launcher.poll():
            watch.look()
            if stop:
                if not launcher.survives:
                    print(f"\n{stop.received.name}: the running jobs save and end.", flush=True)  # type: ignore[union-attr]
                    launcher.stop()
                watch.look(last=True)
                return stop.exit_code
            time.sleep(launcher.poll_s)
        watch.look()
        watch.look(last=True)
    return None


class Watch:
    """Tells of what changes about runs; looks at `run.json` only where that has changed."""

    def __init__(self, runs: Sequence[RunDir], quiet: bool = False) -> None:
        """`quiet`: tell of failures only."""
        self._quiet = quiet
        self._states: dict[Path, str] = dict.fromkeys((run.path for run in runs), "queued")
        self._runs = {run.path: run for run in runs}
        self._suspects: set[Path] = set()

    def look(self, last: bool = False) -> dict[Path, str]:
        """Print a line for each change; return the states.

        Of one that failed when its process has ended, and so has printed why; the `last` time at any rate.
        """
        jobs = functools.cache(slurm.active_jobs)  # asked once for all of them
        for path, before in self._states.items():
            if before in ("finished", "failed"):
                continue
            now = state_of(self._runs[path], jobs=jobs)
            if now == "killed" and path not in self._suspects:
                self._suspects.add(path)  # its launcher may still find out why, or start it again
                continue
            if now == "failed" and not last and self._runs[path].writer_lives():
                continue
            if now != before:
                self._states[path] = now
                self._tell(self._runs[path], now)
        return dict(self._states)

    def _tell(self, run: RunDir, state: str) -> None:
        if state in UNSUCCESSFUL:
            print(failure(run, state), file=sys.stderr, flush=True)
            if not self._quiet:
                print(_tail(run), file=sys.stderr, flush=True)
        elif not self._quiet:
            said = run.read_state()
            job = run.slurm_job
            done = f" at iteration {said['iteration']}" if state in ENDED and said.get("iteration") else ""
            where = f" (job {job})" if job else ""
            print(f"{time.strftime('%H:%M:%S')}  {run.path.name}: {state}{done}{where}", flush=True)


def failure(run: RunDir, state: str) -> str:
    """A line on a run that did not end well."""
    error = str(run.read_state().get("error") or "").splitlines()
    return f"{run.path} {state}" + (f": {error[0]}" if error else "")


def _tail(run: RunDir) -> str:
    """The end of what a job printed."""
    try:
        lines = run.job_log.read_text(errors="replace").rstrip().splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
