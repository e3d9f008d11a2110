"""The configuration of a run: composed from `conf/` and the command line, and checked to the last key."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rl_platform import agreement, registry
from rl_platform.errors import UserError
from rl_platform.opengl import has_display
from rl_platform.schema import Problem, to_plain, validate

if TYPE_CHECKING:
    from rl_platform.composition import Job

LARGEST_SEED = 2**32 - 1
OUR_AGENTS = ("ppo", "sac")


@dataclass
class EvalConfig:
    """The evaluation of a policy.

    Attributes:
        episodes: finished episodes that count, over all environments.
        seed: of the episodes; the same for every policy, so that scores can be compared.
        num_envs: environments that it runs in.
    """

    episodes: int
    seed: int
    num_envs: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        yield from _at_least(1, self, "episodes", "num_envs")
        if not 0 <= self.seed <= LARGEST_SEED:
            yield "seed", f"must be in [0, {LARGEST_SEED}], got {self.seed}"


@dataclass
class RunConfig:
    """What `conf/config.yaml` holds; each group's own keys belong to the chosen module's `Config`.

    Attributes:
        env: the task.
        agent: who learns.
        algo: the learning rule.
        logger: logger → its own configuration.
        launcher: where jobs run.
        sweeper: who chooses what a sweep tries.
        eval: of the evaluations.
        seed: of every random stream.
        device: cpu, cuda or cuda:N.
        num_threads: CPU threads; None for all that the process may use.
        headless: without a window.
        max_iterations: of collecting and learning; None for no limit, as for the next three.
        total_env_steps: summed over environments and ranks.
        stop_after_s: s of wall time, from the command's start.
        score_to_win: mean return of training episodes.
        log_interval: iterations between log lines.
        save_interval: iterations between checkpoints, 0 for only at the end.
        keep_checkpoints: how many numbered ones stay; None for all.
        save_best_after: iterations before the first best checkpoint.
        eval_interval: iterations between evaluations, 0 for only at the end.
        video: of the final policy.
        video_interval: iterations between videos, 0 for none.
        video_length: control steps.
        run_name: added to the directory's name.
        output_dir: parent of all run directories.
        init_from: a run, or a checkpoint in one, whose networks training begins with.
        resume: the run directory that goes on, None in a new run.
    """

    env: dict[str, Any]
    agent: dict[str, Any]
    algo: dict[str, Any]
    logger: dict[str, Any]
    launcher: dict[str, Any]
    sweeper: dict[str, Any]
    eval: EvalConfig
    seed: int
    device: str
    num_threads: int | None
    headless: bool
    max_iterations: int | None
    total_env_steps: int | None
    stop_after_s: float | None
    score_to_win: float | None
    log_interval: int
    save_interval: int
    keep_checkpoints: int | None
    save_best_after: int
    eval_interval: int
    video: bool
    video_interval: int
    video_length: int
    run_name: str
    output_dir: str
    init_from: str | None
    resume: str | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for each value out of range."""
        if not -1 <= self.seed <= LARGEST_SEED:
            yield "seed", f"must be in [0, {LARGEST_SEED}], or -1 to draw one, got {self.seed}"
        limits = ("max_iterations", "total_env_steps", "num_threads")
        yield from _at_least(1, self, *limits, "log_interval", "keep_checkpoints", "video_length")
        yield from _at_least(0, self, "save_interval", "save_best_after", "eval_interval", "video_interval")
        if self.stop_after_s is not None and not self.stop_after_s > 0:
            yield "stop_after_s", f"must be above 0 s, got {self.stop_after_s}"
        if not self.output_dir:
            yield "output_dir", "must name a directory"


def compose(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """Compose and check the configuration of one run; all interpolations are resolved.

    Raises:
        UserError: lists every mistake in the overrides.
    """
    from rl_platform.composition import Composer

    return check_job(Composer(config_dirs).compose(overrides))


def check_job(job: Job) -> DictConfig:
    """Check what a command line asks for; its group files give the examples in the messages.

    Raises:
        UserError: lists every mistake.
    """
    return _created(*find_job_problems(job))


def find_job_problems(job: Job) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values that a command line asks for, each of its own type, and every mistake in them."""
    return find_problems(job.config, job.defaults, _typed(job))


def as_done(job: Job) -> DictConfig:
    """The configuration as composed, but with what its agent has not put to what it does.

    Raises:
        UserError: the command line names some of that.
    """
    if job.config.agent.name in OUR_AGENTS:  # have all, and need not be imported
        return job.config
    values, done = resolved(job.config), job.config.copy()
    found = list(agreement.unavailable(values))
    _created(values, list(agreement.settle(values, _typed(job))))
    for key, _, instead in found:
        OmegaConf.update(done, key, instead[0])
    return done


def _typed(job: Job) -> set[str]:
    """The keys that a command line names."""
    return {text.lstrip("+~").partition("=")[0] for text in job.overrides}


def check(cfg: DictConfig | Mapping[str, Any], defaults: Any = None) -> DictConfig:
    """Check names, types and ranges of a whole configuration against the modules that it chooses.

    Imports those modules, and with them PyTorch and MuJoCo.

    Args:
        cfg: a run's configuration, without Hydra's node.
        defaults: a configuration known to be good, for the examples in the messages.

    Returns:
        A new configuration with every interpolation resolved and every value of its own type.

    Raises:
        UserError: lists every mistake.
    """
    return _created(*find_problems(cfg, defaults))


def _created(checked: dict[str, Any], problems: list[Problem]) -> DictConfig:
    from rl_platform.composition import raise_problems

    if problems:
        raise_problems(problems)
    return OmegaConf.create(checked)


def find_problems(
    cfg: DictConfig | Mapping[str, Any], defaults: Any = None, typed: Collection[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values, each of its own type, and every mistake in them; see `check`.

    `typed`: keys that the command line names; others are adapted to an agent with less to choose from.
    """
    values = resolved(cfg)
    known = defaults if isinstance(defaults, Mapping) else {}
    # A section's own schema alone knows what may be null, or one or several.
    kinds = ("env", "agent", "algo", "launcher", "sweeper")
    run, problems = validate(RunConfig, values, "", {k: v for k, v in known.items() if k not in kinds})
    checked: dict[str, Any] = {} if run is None else to_plain(run)
    for kind in kinds:
        checked[kind], found = _section(kind, values.get(kind), known.get(kind))
        problems += found
    checked["logger"], found = _loggers(values.get("logger"), known.get("logger"))
    problems += found
    if _trains_here(checked):
        problems += [*device_problems(checked.get("device")), *_window_problems(checked)]
    bad = {problem.key for problem in problems}
    problems += [problem for problem in agreement.together(checked) if problem.key not in bad]
    problems += [problem for problem in agreement.settle(checked, typed) if problem.key not in bad]
    return checked, problems


def resolved(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as plain dicts and lists, without interpolations.

    Raises:
        UserError: an interpolation cannot be resolved, or a value is still `???`.
    """
    node = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
    try:
        values = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def draw_seed(cfg: DictConfig | dict[str, Any]) -> None:
    """Replace a seed of -1 by a random one, so that the run can be repeated."""
    if cfg["seed"] == -1:
        cfg["seed"] = random.SystemRandom().randrange(2**31)


def _section(kind: str, node: Any, defaults: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Check the keys of env, agent, algo, launcher or sweeper against the module that its `name` chooses."""
    name = node.get("name") if isinstance(node, Mapping) else None
    if not isinstance(name, str):
        return {}, [Problem(f"{kind}.name", "is missing: the module to use")]
    try:
        schema = registry.schema(kind, name)
    except UserError as error:
        return {}, [Problem(f"{kind}.name", str(error).removeprefix(f"{kind}.name="))]
    config, problems = validate(schema, node, kind, defaults)
    return to_plain(config) or {}, problems


def _loggers(node: Any, defaults: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Check each logger's keys; they are named by their key, several stand side by side."""
    checked: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, own in node.items() if isinstance(node, Mapping) else ():
        known = defaults.get(name) if isinstance(defaults, Mapping) else None
        try:
            config, found = validate(registry.schema("logger", name), own or {}, f"logger.{name}", known)
        except UserError as error:
            config, found = None, [Problem(f"logger.{name}", str(error))]
        checked[name] = to_plain(config) or {}
        problems += found
    return checked, problems


def _trains_here(checked: Mapping[str, Any]) -> bool:
    """Whether the devices of this machine count; a cluster's are others."""
    launcher = checked.get("launcher")
    return not launcher or registry.trains_here(launcher)


def device_problems(device: Any) -> list[Problem]:
    """Whether the device has a right name and this machine has it."""
    if not isinstance(device, str):
        return []  # reported as a wrong type
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        hint = "write device=cuda" if device.startswith(("gpu", "cuda", "nvidia")) else "write device=cpu"
        if device.isdigit():
            hint = f"write device=cuda:{device}"
        return [Problem("device", f"must be cpu, cuda or cuda:N, got {device}", hint)]
    if device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        if not (torch.version.cuda or torch.version.hip):
            message = f"is {device}, and PyTorch {torch.__version__} is a build for the CPU"
            return [Problem("device", message, "install one with CUDA (pytorch.org), or write device=cpu")]
        return [Problem("device", f"is {device}, and this machine has no CUDA device", "write device=cpu")]
    if int(device.partition(":")[2] or 0) >= count:
        have = ", ".join(f"cuda:{index}" for index in range(count))
        return [Problem("device", f"is {device}, and this machine has {have}", "write device=cuda:0")]
    return []


def _window_problems(checked: dict[str, Any]) -> Iterator[Problem]:
    """Whether there is a display where a window is wanted that a browser cannot take the place of."""
    env = checked["env"] or {}
    if checked.get("headless") is False and not has_display() and env.get("name") == "gymnasium":
        message = "is false, this machine has no display, and a browser shows only our own tasks"
        yield Problem("headless", message, "write headless=true")


def _at_least(minimum: int, config: Any, *keys: str) -> Iterator[tuple[str, str]]:
    for key in keys:
        value = getattr(config, key)
        if value is not None and value < minimum:
            yield key, f"must be at least {minimum}, got {value}"
