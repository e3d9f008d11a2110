"""`python run.py [train] key=value …`: a run, a sweep of runs, or the continuation of one."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from rl_platform import config, provenance, registry, suggest
from rl_platform.commands import COMMANDS
from rl_platform.composition import CONFIG_NAME, Composer, raise_problems
from rl_platform.errors import NonFiniteError, UserError
from rl_platform.schema import Problem

if TYPE_CHECKING:
    from rl_platform.run_dir import RunDir

# What a checkpoint holds the state of, and what the directory is named after.
FIXED_ON_RESUME = ("env", "agent", "algo", "tuned", "launcher", "seed", "run_name", "output_dir")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. python run.py --help lists the flags.")


def main(argv: Sequence[str]) -> int:
    """Do what the command line asks for; return the exit status."""
    if "=" in argv:
        raise UserError("A setting has no blanks around its =: write key=value, such as env=lift.")
    parser = _flags()
    known, mistakes = _split_mistakes(list(argv), parser)
    options = parser.parse_intermixed_args(known)
    if options.help:
        from rl_platform.commands import help as help_page

        folders = [word for folder in options.config_dir for word in ("--config-dir", folder)]
        return help_page.main([*options.overrides, *folders])
    composer = Composer(options.config_dir, COMMANDS)
    if mistakes:
        raise_problems(_explain(name, value, composer) for name, value in mistakes)
    if options.info or options.shell_completion or options.cfg in ("hydra", "all"):
        return _hydras_own(composer, options)
    resume = [text.partition("=")[2] for text in options.overrides if text.startswith("resume=")]
    if resume and resume[-1] not in ("", "null"):
        if options.multirun:
            raise UserError("A sweep starts new runs; resume=RUN goes on with one: leave out -m.")
        return _resume(composer, resume[-1], options)
    if options.cfg and options.multirun:
        raise UserError("--cfg shows one run: leave out -m, and write one value for each key.")
    if not options.cfg and (options.multirun or composer.launches_sweeps(options.overrides)):
        return _sweep(composer, options.overrides)
    job = composer.compose(options.overrides)
    if options.cfg:
        return _show(job.config, options)
    cfg = config.check_job(job)
    config.draw_seed(cfg)
    return _start(cfg, job.directory(cfg.seed), job.choices)[0]


def _start(cfg: DictConfig, directory: Path, choices: Mapping[str, Any]) -> tuple[int, RunDir]:
    """Make the run's directory, which nobody else has, and train; return the exit status."""
    from rl_platform.run_dir import RunDir
    from rl_platform.train import train

    run_dir = RunDir.create(directory.parent, directory.name)
    # The options as they were typed: lift_isaac, where the configuration only has the module's name.
    words = {group: choices[group] for group in ("env", "agent", "algo")}
    if "id" in cfg.env:
        words["env"] = registry.env_label(cfg.env)
    run_dir.update_state(seed=cfg.seed, **words)
    return train(cfg, run_dir), run_dir


def _resume(composer: Composer, directory: str, options: argparse.Namespace) -> int:
    """Go on with a run: its own configuration, and the few keys that may change."""
    from rl_platform.old_runs import load_config
    from rl_platform.run_dir import RunDir

    run_dir = RunDir.open(Path(directory))
    cfg = load_config(run_dir)
    overrides = [text for text in options.overrides if not text.startswith("resume=")]
    cfg = config.check(_changed(composer, cfg, overrides), OmegaConf.to_container(cfg))
    cfg.resume = directory
    if options.cfg:
        return _show(cfg, options)
    _refuse_if_done(cfg, run_dir)
    from rl_platform.train import train

    return train(cfg, run_dir)


def _refuse_if_done(cfg: DictConfig, run_dir: RunDir) -> None:
    """Raise a UserError if there is nothing left to do: the run is finished, and its limits are the same."""
    from rl_platform.schedule import Progress, Schedule

    state = run_dir.read_state()
    if state["state"] != "finished" or "env_steps" not in state:
        return
    done = {"max_iterations": state["iteration"], "total_env_steps": state["env_steps"]}
    reason = Schedule.from_config(cfg).reason_to_stop(
        Progress(state["iteration"], state["env_steps"], 0.0, 0.0, None)
    )
    if reason is not None:
        key = reason.partition("=")[0]
        raise UserError(
            f"{run_dir.path} is finished: {reason}. To train it on raise that limit: "
            f"{provenance.python()} run.py resume={run_dir.path} {key}={2 * done[key]}"
        )


def _changed(composer: Composer, cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return a saved configuration with the overrides of a resumed run.

    Raises:
        UserError: lists those that cannot be read, do not exist, or would make it another run.
    """
    parsed, problems = composer.parse(overrides)
    values = OmegaConf.to_container(cfg)
    assert isinstance(values, dict)
    changed = cfg.copy()
    loggers = [o for o in parsed if o.key_or_group.partition(".")[0] == "logger"]
    if any(o.key_or_group == "logger" for o in loggers):  # others than the run has had, with their own keys
        changed.logger = composer.compose([str(o.input_line) for o in loggers]).config.logger
        parsed = [o for o in parsed if o not in loggers]
    for override in parsed:
        key, text = override.key_or_group, str(override.input_line)
        top = key.partition(".")[0]
        if top in FIXED_ON_RESUME:
            free = ", ".join(str(name) for name in values if name not in FIXED_ON_RESUME and name != "resume")
            problems.append(
                Problem(text, f"a resumed run keeps its {top}", f"start a new run for that; free are {free}")
            )
        elif override.is_sweep_override():
            problems.append(Problem(text, "a resumed run has one value for each key"))
        elif suggest.lookup(values, key) is suggest.ABSENT:
            problems.append(suggest.key(text, key, values, composer.groups))
        else:
            OmegaConf.update(changed, key, override.value(), force_add=True)
    if problems:
        raise_problems(problems)
    return changed


def _sweep(composer: Composer, overrides: Sequence[str]) -> int:
    """Check every job, then let Hydra's sweeper and launcher run them."""
    jobs = composer.sweep(overrides)
    problems = [problem for job in jobs for problem in config.find_problems(job.config, job.defaults)[1]]
    if problems:
        raise_problems(problems)
    task = SweepTask(len(jobs))
    try:
        composer.hydra.multirun(
            CONFIG_NAME, task, composer.for_hydra(overrides, jobs[0]), with_log_configuration=False
        )
    except HydraException as error:
        raise UserError(f"The sweep cannot be launched: {error}") from error
    except Exception:
        if not task.failures:
            raise  # else it is a job's own error, which was shown when it happened
    print(task.report(), flush=True)
    return 1 if task.failures else 0


class SweepTask:
    """What Hydra's launcher calls for each job of a sweep.

    Attributes:
        failures: a line for each job that failed.
    """

    def __init__(self, num_jobs: int) -> None:
        """`num_jobs`: in the whole sweep."""
        self.num_jobs = num_jobs
        self.failures: list[str] = []
        self.done = 0

    def __call__(self, cfg: DictConfig) -> Any:
        """Train one job; show its error at once and hand it on, for the launcher to count."""
        from hydra.core.hydra_config import HydraConfig

        directory = Path(os.path.relpath(HydraConfig.get().runtime.output_dir))
        self.done += 1
        print(f"\njob {self.done} of {self.num_jobs}: {directory}", flush=True)
        try:
            return self._train(cfg, directory)
        except (UserError, NonFiniteError) as error:
            self._failed(directory, str(error), str(error).splitlines()[0])
            raise
        except Exception as error:
            self._failed(directory, traceback.format_exc(), f"{type(error).__name__}: {error}")
            raise

    def report(self) -> str:
        """How many of the jobs ended well, and which did not."""
        good = self.done - len(self.failures)
        return "\n".join([f"\n{good} of {self.num_jobs} jobs finished", *self.failures])

    def _train(self, cfg: DictConfig, directory: Path) -> str:
        from hydra.core.hydra_config import HydraConfig

        checked = config.check(cfg)
        config.draw_seed(checked)
        directory.rmdir()  # Hydra made it, whether it was there or not; a run's directory has to be new
        status, run_dir = _start(checked, directory, HydraConfig.get().runtime.choices)
        if run_dir.read_state()["state"] == "preempted":
            raise SystemExit(status)  # somebody asked for a stop: of the whole sweep
        return str(directory)

    def _failed(self, directory: Path, text: str, short: str) -> None:
        print(f"{directory} failed: {text}", file=sys.stderr, flush=True)
        self.failures.append(f"  {directory} failed: {short}")


def _show(cfg: DictConfig, options: argparse.Namespace) -> int:
    """Print a configuration, or the part of it that --package names."""
    node = OmegaConf.create(config.resolved(cfg)) if options.resolve else cfg
    if options.package and options.package != "_global_":
        node = OmegaConf.select(node, options.package)
        if node is None:
            raise UserError(f"--package {options.package}: there is no such key.")
    print(OmegaConf.to_yaml(node).rstrip() if OmegaConf.is_config(node) else node)
    return 0


def _hydras_own(composer: Composer, options: argparse.Namespace) -> int:
    """Leave to Hydra what is about Hydra: its node, its search path, the shell's completion."""
    overrides = options.overrides
    if options.cfg:
        composer.compose(overrides)  # for its messages
        composer.hydra.show_cfg(CONFIG_NAME, overrides, options.cfg, options.package, options.resolve)
    elif options.shell_completion:
        composer.hydra.shell_completion(CONFIG_NAME, overrides)
    else:
        composer.hydra.show_info(options.info, CONFIG_NAME, overrides)
    return 0


def _flags() -> argparse.ArgumentParser:
    """Hydra's flags, as far as they make sense here; `help.py` explains them."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    parser.add_argument("-i", "--info", choices=["all", "config", "defaults", "defaults-tree", "searchpath"])
    parser.add_argument("-sc", "--shell-completion", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser


def _split_mistakes(
    argv: list[str], parser: argparse.ArgumentParser
) -> tuple[list[str], list[tuple[str, str]]]:
    """Part the flags that exist from settings written like flags: `--env lift`, `--env=lift`."""
    flags = {text for action in parser._actions for text in action.option_strings}
    known: list[str] = []
    mistakes: list[tuple[str, str]] = []
    while argv:
        word = argv.pop(0)
        if not word.startswith("-") or word.partition("=")[0] in flags:
            known.append(word)
            continue
        name, equals, value = word.partition("=")
        if not equals and argv and "=" not in argv[0] and not argv[0].startswith("-"):
            value = argv.pop(0)
        mistakes.append((name, value))
    return known, mistakes


def _explain(name: str, value: str, composer: Composer) -> Problem:
    """Say how a setting that was written like a flag is written."""
    key = name.lstrip("-").replace("-", "_")
    text = f"{name} {value}".strip()
    values = composer.compose([]).defaults
    write = f"{key}={value or '…'}"
    if key not in composer.groups and suggest.lookup(values, key) is suggest.ABSENT:
        hint = suggest.key(write, key, values, composer.groups).hint
        return Problem(text, "settings are written key=value, without dashes", hint)
    return Problem(text, "settings are written key=value, without dashes", f"write {write}")
