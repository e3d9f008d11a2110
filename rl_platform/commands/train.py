"""`python run.py [train] key=value …`: a run, a sweep of runs, or the continuation of one."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from omegaconf import DictConfig, OmegaConf

from rl_platform import config, multirun, place, provenance, registry, suggest
from rl_platform.commands import COMMANDS
from rl_platform.composition import CONFIG_NAME, Composer, Job, raise_problems, replace_limits
from rl_platform.errors import UserError
from rl_platform.join import as_rank
from rl_platform.other_names import OFF, ON
from rl_platform.schedule import LIMITS
from rl_platform.schema import Problem
from rl_platform.states import state_of
from rl_platform.sweepers.optuna import require_optuna

if TYPE_CHECKING:
    from rl_platform.run_dir import RunDir

# What a checkpoint holds the state of, and what the directory is named after.
FIXED_ON_RESUME = ("env", "agent", "algo", "tuned", "sweeper", "seed", "init_from", "run_name", "output_dir")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. python run.py --help lists the flags.")


def main(argv: Sequence[str]) -> int:
    """Do what the command line asks for; return the exit status.

    As one of several ranks (`torchrun … run.py`), only rank 0 reads the command line.
    """
    return as_rank(lambda: _main(argv))


def _main(argv: Sequence[str]) -> int:
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
        problems = list(_explain(mistakes, options.overrides, composer))
        raise_problems(problems, _instead(problems, options.overrides, composer))
    if options.info or options.shell_completion or options.cfg in ("hydra", "all"):
        return _hydras_own(composer, options)
    resume = [text.partition("=")[2] for text in options.overrides if text.startswith("resume=")]
    if resume and resume[-1].lower() in ("true", "false"):
        hint = "write resume=RUN, a run directory: python run.py list runs has them; a new run has none"
        raise_problems([Problem(f"resume={resume[-1]}", "names no run", hint)])
    if resume and resume[-1] not in ("", "null"):
        if options.multirun:
            raise UserError("A sweep starts new runs; resume=RUN goes on with one: leave out -m.")
        return _resume(composer, resume[-1], options)
    if options.cfg and options.multirun:
        raise UserError("--cfg shows one run: leave out -m, and write one value for each key.")
    if options.multirun:
        if composer.sweeper(options.overrides) == "optuna":
            require_optuna()
            from rl_platform import search

            return search.run(composer, options.overrides, options.config_dir)
        return multirun.run_sweep(composer, options.overrides)
    job = composer.compose(options.overrides)
    if options.cfg:
        return _show(config.as_done(job), options)
    if job.has_recipe:
        raise UserError("sweep=… is a recipe for many runs, and a sweep needs -m: python run.py -m …")
    if job.config.sweeper.name != "basic":
        raise UserError(f"sweeper={job.config.sweeper.name} is for sweeps, which need -m: python run.py -m …")
    return _start(composer, job)


def _start(composer: Composer, job: Job) -> int:
    """Make the run's directory, which nobody else has, and train here or where the launcher says."""
    (cfg,) = multirun.check_jobs([job])
    directory = job.directory(cfg["seed"])
    if registry.trains_here(cfg["launcher"]) or place.find() is not None:
        return _train_here(OmegaConf.create(cfg), multirun.queue_run(directory, cfg, job))
    launcher = multirun.make_launcher(composer, job, cfg["launcher"])
    launcher.check([cfg])
    return multirun.run_alone(launcher, multirun.queue_run(directory, cfg, job))


def _train_here(cfg: DictConfig, run_dir: RunDir) -> int:
    """Train in this process; or in several, if the launcher says so and nobody has started them yet."""
    if cfg.launcher.name == "distributed" and place.find() is None:
        from rl_platform.ranks import run_ranks

        run_dir.save_config(cfg)
        return run_ranks(run_dir.path, cfg.launcher.num_processes)
    from rl_platform.train import train

    return train(cfg, run_dir)


def _resume(composer: Composer, directory: str, options: argparse.Namespace) -> int:
    """Go on with a run: its own configuration, and the few keys that may change."""
    from rl_platform.old_runs import load_config
    from rl_platform.run_dir import RunDir

    run_dir = RunDir.open(Path(directory))
    cfg = load_config(run_dir)
    cfg.launcher = composer.compose([]).config.launcher  # it goes on here, wherever it began
    overrides = [text for text in options.overrides if not text.startswith("resume=")]
    cfg = config.check(_changed(composer, cfg, overrides), OmegaConf.to_container(cfg))
    cfg.resume = str(run_dir.path)
    if options.cfg:
        return _show(cfg, options)
    if run_dir.chosen is None:
        state = run_dir.read_state()
        if state["state"] == "finished" and "env_steps" in state:
            _refuse_if_done(cfg, run_dir, state["iteration"], state["env_steps"])
            _refuse_if_won(cfg, run_dir)
    else:
        run_dir = _go_back(cfg, run_dir, run_dir.chosen)
    if registry.trains_here(cfg.launcher) or place.find() is not None:
        return _train_here(cfg, run_dir)
    launcher = multirun.make_launcher(
        composer, composer.compose([f"launcher={cfg.launcher.name}"]), cfg.launcher
    )
    launcher.check([cfg])
    if state_of(run_dir) == "running":
        raise UserError(f"{run_dir.path} is being trained by another process.")
    run_dir.save_config(cfg)
    run_dir.wait_again()
    return multirun.run_alone(launcher, run_dir)


def _go_back(cfg: DictConfig, run_dir: RunDir, chosen: Path) -> RunDir:
    """Let the run go on from one of its checkpoints, whoever trains it and wherever."""
    from rl_platform.rewind import go_back
    from rl_platform.run_dir import RunDir

    checkpoint = run_dir.load_checkpoint()
    iteration, env_steps = int(checkpoint["iteration"]), int(checkpoint["env_steps"])
    _refuse_if_done(cfg, run_dir, iteration, env_steps)
    folder = go_back(run_dir, chosen, iteration, env_steps)
    if folder is not None:
        names = ", ".join(sorted(path.name for path in folder.glob("*.pt")))
        print(f"What was trained after iteration {iteration} is in {folder} now: {names}")
    return RunDir(run_dir.path)


def _refuse_if_done(cfg: DictConfig, run_dir: RunDir, iteration: int, env_steps: int) -> None:
    """Raise a UserError if there is nothing left to do after this iteration: a limit is reached."""
    from rl_platform.schedule import Progress, Schedule

    reason = Schedule.from_config(cfg).reason_to_stop(Progress(iteration, env_steps, 0.0, 0.0, None))
    if reason is not None:
        key = reason.partition("=")[0]
        reached = {"max_iterations": iteration, "total_env_steps": env_steps}[key]
        raise UserError(
            f"{run_dir.path} is finished: {reason}. To train it on raise that limit: "
            f"{provenance.run(f'resume={run_dir.path}', f'{key}={2 * reached}')}"
        )


def _refuse_if_won(cfg: DictConfig, run_dir: RunDir) -> None:
    """Raise a UserError if the run ended at a score that would end it again at once."""
    try:
        reason = str(json.loads(run_dir.summary_json.read_bytes())["stopped_by"])
    except (OSError, ValueError, KeyError):
        return
    if cfg.score_to_win is not None and reason.startswith(f"score_to_win={cfg.score_to_win:g} "):
        raise UserError(
            f"{run_dir.path} is finished: {reason}. To train it on take that limit away: "
            f"{provenance.run(f'resume={run_dir.path}', 'score_to_win=null')}"
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
    # a wall time is of this sitting: what the run was to come to stays
    steps = [name for name in LIMITS if name != "stop_after_s"]
    replace_limits(changed, (o for o in parsed if not o.is_sweep_override()), steps)
    for group in ("logger", "launcher"):
        own = [o for o in parsed if o.key_or_group.partition(".")[0] == group]
        if any(o.key_or_group == group for o in own):  # another than the run has had, with its own keys
            changed[group] = composer.compose([str(o.input_line) for o in own]).config.get(group)
            parsed = [o for o in parsed if o not in own]
    for override in parsed:
        key, text = override.key_or_group, str(override.input_line)
        top = key.partition(".")[0]
        if top in FIXED_ON_RESUME:
            free = ", ".join(str(name) for name in values if name not in FIXED_ON_RESUME and name != "resume")
            problems.append(
                Problem(
                    text,
                    f"a resumed run keeps its {top}",
                    f"start a new run, with init_from=RUN from these networks; free are {free}",
                )
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


def _instead(problems: Sequence[Problem], overrides: Sequence[str], composer: Composer) -> str:
    """The command that the hints on a command line add up to; empty unless they leave no question."""
    wrong = [problem.key for problem in problems]
    words = [word for word in overrides if word not in wrong]
    for problem in problems:
        meant = re.fullmatch(r"(?:write|did you mean) (\S+=\S+?)(?:,? or .*|: .*|\?)?", problem.hint)
        if meant is None or re.search(r"=(…|[A-Z]+$)", meant[1]):
            return ""
        words.append(meant[1])
    try:
        composer.compose(words)
    except UserError:
        return ""
    return provenance.run(*words)


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


def _explain(
    mistakes: Sequence[tuple[str, str]], overrides: Sequence[str], composer: Composer
) -> Iterator[Problem]:
    """Say how settings that were written like flags are written, and what the words beside them mean."""
    try:
        values = composer.compose(overrides).defaults
    except UserError:
        values = composer.compose([]).defaults
    words = list(overrides)
    for name, value in mistakes:
        key = name.lstrip("-").replace("-", "_")
        if suggest.stands_alone(key, values) and value.lower() not in ("", *ON, *OFF):
            words.append(value)
            value = ""
        hint = suggest.flag(key, value, values, composer.groups)
        yield Problem(f"{name} {value}".strip(), "settings are written key=value, without dashes", hint)
    yield from composer.parse(words)[1]
