"""Hydra's part: command-line overrides to configurations, one or a sweep of them.

Hydra stops at the first mistake, and lets a misspelt key through behind `+` and `++`. Here every
override is looked at first, so that all the mistakes of a command are told at once.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from rl_platform import conf_files, registry, suggest
from rl_platform.conf_files import CONF_DIR
from rl_platform.errors import UserError
from rl_platform.schedule import LIMITS
from rl_platform.schema import Problem

CONFIG_NAME = "config"
_ONE_PER_SWEEP = ("launcher", "sweeper", "hydra", "sweep", "experiment", "output_dir")
_LONGEST_TAG = 80  # characters; file names may have 255


@dataclass(frozen=True)
class Job:
    """One run as the command line asks for it; its values are not checked yet.

    Attributes:
        config: without Hydra's own node; interpolations are not resolved.
        hydra: Hydra's node.
        defaults: what `config` would be without the overrides of single keys.
        overrides: as typed.
        varied: key → value, as text, of what differs between the jobs of its sweep.
    """

    config: DictConfig
    hydra: DictConfig
    defaults: dict[str, Any]
    overrides: list[str]
    varied: dict[str, str] = field(default_factory=dict)

    @property
    def choices(self) -> dict[str, str]:
        """The chosen option of each group, such as `{"env": "lift", "agent": "ppo"}`."""
        return {k: str(v) for k, v in self.hydra.runtime.choices.items() if v and not k.startswith("hydra/")}

    @property
    def has_recipe(self) -> bool:
        """Whether a recipe of several runs was chosen (`sweep=…`)."""
        return self.choices.get("sweep", "[]") != "[]"

    def directory(self, seed: int) -> Path:
        """Return where a single run belongs, by the pattern in `conf/config.yaml`."""
        return Path(self._pattern("hydra.run.dir", OmegaConf.merge(self.config, {"seed": seed})))

    def sweep_directory(self) -> Path:
        """Return where the sweep belongs that this is a job of."""
        return Path(self._pattern("hydra.sweep.dir", self.config.copy()))

    def name_in_sweep(self, number: int) -> str:
        """Return the name of the job's directory in that of its sweep: its number and what it varies."""
        self.hydra.job.num = number
        root = OmegaConf.create({}, flags={"no_deepcopy_set_nodes": True})  # a copy takes milliseconds
        root.hydra = self.hydra
        return str(root.hydra.sweep.subdir)

    def _pattern(self, key: str, full: Any) -> str:
        with open_dict(full):
            full.hydra = self.hydra
        return str(OmegaConf.select(full, key))


class Composer:
    """Composes jobs out of `conf/`; keeps what jobs with the same choices of groups share."""

    def __init__(self, config_dirs: Sequence[str | Path] = (), commands: Iterable[str] = ()) -> None:
        """Find the groups.

        Args:
            config_dirs: the user's own directories of groups, looked at before `conf/`.
            commands: other words that the user may have meant.

        Raises:
            UserError: one of the directories does not exist.
        """
        if not CONF_DIR.is_dir():
            raise UserError(f"{CONF_DIR} is missing: install from a clone, with pip install -e .")
        version.setbase("1.3")
        _show_hydra_the_launchers()
        path = create_config_search_path(str(CONF_DIR))
        for folder in config_dirs:
            if not Path(folder).is_dir():
                raise UserError(f"--config-dir {folder}: there is no such directory.")
            anchor = SearchPathQuery(provider="schema")
            path.prepend(provider="command-line", path=f"file://{Path(folder).resolve()}", anchor=anchor)
        self.hydra = Hydra("run", ConfigLoaderImpl(path))
        OmegaConf.register_new_resolver("job_tag", job_tag, replace=True)
        self._commands = list(commands)
        self._keys = {entry.key for entry in conf_files.entries(CONF_DIR / f"{CONFIG_NAME}.yaml")}
        self._bases: dict[tuple[str, ...], tuple[bytes, dict[Any, Any]]] = {}
        self._parsed: dict[str, Override] = {}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The options of each group, without Hydra's own."""
        loader = self.hydra.config_loader
        names = [name for name in loader.list_groups("") if name != "hydra"]
        return {name: loader.get_group_options(name) for name in names}

    def compose(self, overrides: Sequence[str]) -> Job:
        """Compose one run.

        Raises:
            UserError: some overrides cannot be read, or name a group, an option or a key that does
                not exist; all of them are listed.
        """
        parsed, problems = self.parse(overrides)
        problems += [_sweep_without_m(override) for override in parsed if override.is_sweep_override()]
        return self._job([o for o in parsed if not o.is_sweep_override()], problems)

    def sweep(self, overrides: Sequence[str]) -> list[Job]:
        """Compose every job of a sweep, in the order in which they will run.

        What varies is what has several values on the command line, and what the chosen recipes
        (`conf/sweep/`) have and the command line has not.

        Raises:
            UserError: as `compose`.
        """
        typed = self.typed(overrides)
        try:
            batches = BasicSweeper.split_arguments(typed, max_batch_size=None)
        except HydraException as error:
            raise UserError(
                f"This sweep cannot be written out as jobs: {error}. Intervals are for sweeper=optuna."
            ) from error
        return [self._sweep_job(line, typed) for line in batches[0]]

    def typed(self, overrides: Sequence[str]) -> list[Override]:
        """Read what a sweep's command line says, and what the recipes that it chooses add to that.

        Raises:
            UserError: as `compose`.
        """
        parsed, problems = self.parse(overrides)
        for override in parsed:
            if override.is_sweep_override() and override.key_or_group.split(".")[0] in _ONE_PER_SWEEP:
                problems.append(_one_per_sweep(override))
        if problems:
            raise_problems(problems)
        given = {override.key_or_group for override in parsed}
        recipe, problems = self.parse([f"{k}={v}" for k, v in self._recipe(parsed).items() if k not in given])
        if problems:
            raise_problems(problems)
        return [*recipe, *(o for o in parsed if o.key_or_group != "sweep")]

    def setting(self, typed: Sequence[Override], values: Mapping[str, str]) -> Job:
        """Compose one job of a sweep that is not written out beforehand.

        Args:
            typed: see `typed`.
            values: what every override with several values has in this job, by its key (`+algo.x`).

        Raises:
            UserError: as `compose`.
        """
        line = [
            f"{(key := o.get_key_element())}={values.get(key) or o.get_value_element_as_str()}" for o in typed
        ]
        return self._sweep_job(line, typed)

    def sweeper(self, overrides: Sequence[str]) -> str:
        """Return the name of the sweeper that a command line chooses."""
        parsed, _ = self.parse([text for text in overrides if re.match(r"sweep(er)?=", text)])
        chosen = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
        return str(self.compose(chosen).config.sweeper.name)

    def _sweep_job(self, line: Sequence[str], typed: Sequence[Override]) -> Job:
        varying = [o.key_or_group for o in typed if o.is_sweep_override()]
        fixed = [o.key_or_group for o in typed if not o.is_sweep_override() and not o.is_hydra_override()]
        again, unreadable = self.parse([re.sub(r"^(~[^=]*)=null$", r"\1", text) for text in line])
        job = self._job(again, unreadable)
        if varying:  # what all jobs have in common does not belong into their names
            job.hydra.job.config.override_dirname.exclude_keys.extend(fixed)
        values = {o.key_or_group: str(o.input_line).partition("=")[2] for o in again}
        return replace(job, varied={key: values[key] for key in varying})

    def _recipe(self, parsed: Sequence[Override]) -> dict[str, str]:
        """The keys and values to try that the chosen options bring along."""
        chosen = [o for o in parsed if not o.is_sweep_override() and self._is_choice(o)]
        problems = [problem for o in chosen if (problem := self._choice_problem(o))]
        if problems:
            raise_problems(problems)
        _, values = self._base(tuple(str(o.input_line) for o in chosen))
        return {
            str(key): str(value) for key, value in (values["hydra"]["sweeper"].get("params") or {}).items()
        }

    def parse(self, overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
        """Read overrides; those that cannot be read become problems."""
        parser = OverridesParser.create(config_loader=self.hydra.config_loader)
        parsed, problems = [], []
        for text in overrides:
            try:
                if text not in self._parsed:  # the jobs of a sweep have much in common
                    (self._parsed[text],) = parser.parse_overrides([text])
                parsed.append(self._parsed[text])
            except HydraException:
                problems.append(suggest.unreadable(text, self.groups, self._commands, self._keys))
        return parsed, problems

    def _job(self, overrides: list[Override], problems: list[Problem]) -> Job:
        choices = [o for o in overrides if self._is_choice(o)]
        keys = [o for o in overrides if not self._is_choice(o)]
        bad = [(o, problem) for o in choices if (problem := self._choice_problem(o))]
        problems = problems + [problem for _, problem in bad]
        good = [o for o in choices if all(o is not other for other, _ in bad)]
        chosen = tuple(str(o.input_line) for o in good)
        base, values = self._base(chosen)
        if tuned := self._tuned_on_a_gpu(good, keys, values):
            base, values = self._base((*chosen, f"tuned={tuned}"))
        unclear = {o.key_or_group for o, _ in bad}  # their keys cannot be judged
        for override in keys:
            if override.key_or_group.split(".")[0] not in unclear:
                problems += self._key_problems(override, values)
        if problems:
            raise_problems(problems)
        defaults = {str(key): value for key, value in values.items() if key != "hydra"}
        return _apply(pickle.loads(base), keys, defaults, [str(o.input_line) for o in overrides])

    def _tuned_on_a_gpu(
        self, choices: list[Override], keys: list[Override], values: Mapping[Any, Any]
    ) -> str | None:
        """The settings for this pair of task and algorithm where a GPU simulates; None: as anywhere else."""
        own = {o.key_or_group: o.value() for o in keys}
        device = str(own.get("device", values["device"]))
        physics = own.get("env.physics", values["env"].get("physics", "cpu"))
        on_gpu = device.startswith("cuda") and registry.simulator(physics, device) == "warp"
        if not on_gpu or any(o.key_or_group == "tuned" for o in choices):
            return None
        option = f"{values['hydra']['runtime']['choices'].get('tuned')}_gpu"
        return option if option in self.groups["tuned"] else None

    def _is_choice(self, override: Override) -> bool:
        """Whether an override chooses an option of a group, as Hydra sees it."""
        key, value = override.key_or_group, override.value()
        group = "/" in key or key in self.groups
        return group and (override.is_delete() or value is None or isinstance(value, str | list))

    def _choice_problem(self, override: Override) -> Problem | None:
        group, value = override.key_or_group, override.value()
        if group not in self.groups or override.is_delete():
            return None  # one of Hydra's own groups, or the group is left out
        for option in value if isinstance(value, list) else [value]:
            if option not in self.groups[group]:
                return suggest.option(group, "" if option is None else str(option), self.groups)
        return None

    def _key_problems(self, override: Override, values: Mapping[Any, Any]) -> list[Problem]:
        key, text = override.key_or_group, str(override.input_line)
        found = suggest.lookup(values, key)
        if found is suggest.ABSENT:
            return [] if key.startswith("hydra.") else [suggest.key(text, key, values, self.groups)]
        if override.is_add() and found is not suggest.OPEN and not isinstance(found, dict | list):
            hint = f"write {text.removeprefix('+')}"
            return [Problem(text, f"+ adds a key, and {key} is there already", hint)]
        return []

    def _base(self, choices: tuple[str, ...]) -> tuple[bytes, dict[Any, Any]]:
        """What the groups give, before any single key is set, and its values as plain dicts.

        Pickled, since a copy is needed for each job: `copy.deepcopy` takes six times as long.
        """
        if choices not in self._bases:
            try:
                base = self.hydra.compose_config(CONFIG_NAME, list(choices), RunMode.RUN)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"conf/ cannot be composed: {_told(error)}") from error
            except MarkedYAMLError as error:
                raise UserError(f"{error.problem} {error.problem_mark}".replace("\n", " ")) from error
            values = OmegaConf.to_container(base)
            assert isinstance(values, dict)
            self._bases[choices] = pickle.dumps(base), values
        return self._bases[choices]


def _show_hydra_the_launchers() -> None:
    """Put the directory of our Hydra plugins on Python's path, last: Hydra looks for them there."""
    folder = str(CONF_DIR.parent / "launchers")
    if folder not in sys.path:
        sys.path.append(folder)


def job_tag(source: Any, exclude: Sequence[str] = ()) -> str:
    """Make the end of a directory's name out of a run's name, or of the overrides of a job.

    `["env=lift", "algo.gamma=0.9"]` gives `_env=lift,gamma=0.9`; at most 80 characters, none that a
    shell or a file system minds.

    Args:
        source: a name, or overrides.
        exclude: keys that do not belong to it, with all below them: where the job runs, and what all
            the jobs of the sweep have in common.
    """
    if isinstance(source, ListConfig | list | tuple):
        keys = [str(key) for key in exclude]
        source = ",".join(_short(text) for text in map(str, source) if not _concerns(text, keys))
    tag = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", str(source or ""))[:_LONGEST_TAG].strip("-,.")
    return f"_{tag}" if tag else ""


def raise_problems(problems: Iterable[Problem], instead: str = "") -> None:
    """Raise one UserError that lists the problems, each once; `instead`: a command without any of them."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    head = "One thing has" if len(lines) == 1 else f"{len(lines)} things have"
    body = "\n".join(f"  {line}" for line in lines)
    command = f"All at once: {instead}\n" if instead else ""
    raise UserError(
        f"{head} to be changed:\n\n{body}\n\n{command}"
        "Nothing was started. All groups and keys: python run.py --help; every value of a run: add --cfg job"
    )


def _apply(full: DictConfig, keys: list[Override], defaults: dict[str, Any], overrides: list[str]) -> Job:
    """Set the overridden keys in a composed configuration, as Hydra does it."""
    with open_dict(full):
        replace_limits(full, keys)
        for override in keys:
            try:
                if override.is_delete() or override.key_or_group.startswith("hydra."):
                    ConfigLoaderImpl._apply_overrides_to_config([override], full)
                else:
                    OmegaConf.update(full, override.key_or_group, override.value(), force_add=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"{override.input_line}: {_told(error)}") from error
        hydra = full.pop("hydra")
    hydra.overrides.task = [text for text in overrides if not re.match(r"[~+]*hydra[./]", text)]
    return Job(config=full, hydra=hydra, defaults=defaults, overrides=overrides)


def replace_limits(cfg: DictConfig, overrides: Iterable[Override], by: Iterable[str] = LIMITS) -> None:
    """Take away the limits that a configuration has, if the command line sets one of `by`."""
    if any(o.key_or_group in by and not o.is_delete() and o.value() is not None for o in overrides):
        for name in LIMITS:
            cfg[name] = None


def _one_per_sweep(override: Override) -> Problem:
    text, key = str(override.input_line), override.key_or_group
    if key == "sweep":
        return Problem(text, "several recipes are a list", f"write sweep=[{text.partition('=')[2]}]")
    return Problem(text, f"one sweep has one {key.split('.')[0]}", "start a sweep for each")


def _sweep_without_m(override: Override) -> Problem:
    text = str(override.input_line)
    key, _, value = text.partition("=")
    return Problem(
        text,
        "several values are a sweep, and a sweep needs -m",
        f"write python run.py -m … {text}; a list is written {key}=[{value}]",
    )


def _told(error: Exception) -> str:
    """The first line of an error of Hydra's: the others are links and traces."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return (str(cause) or type(cause).__name__).strip().splitlines()[0]


def _concerns(override: str, keys: Iterable[str]) -> bool:
    """Whether an override deletes something, or is of one of the keys or of one below it."""
    key = override.lstrip("+").partition("=")[0]
    return key.startswith("~") or any(key == other or key.startswith(f"{other}.") for other in keys)


def _short(override: str) -> str:
    """`algo.gamma=0.9` → `gamma=0.9`."""
    key, equals, value = override.lstrip("+").partition("=")
    return f"{key.rpartition('.')[2]}{equals}{value}"
