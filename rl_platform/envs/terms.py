"""The parts that a task is made of: named functions of its state, and the numbers from its YAML.

A term function takes the task's state (or the environment, where said) and keyword parameters; it
has the same name in the task's table and in `conf/env/<task>.yaml`, which holds its numbers.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mujoco
import torch

from rl_platform.envs import history

TermFunction = Callable[..., torch.Tensor]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """A goal that the task gives: `sample(env, env_ids, **ranges)` draws it, `(len(env_ids), dim)`."""

    sample: TermFunction
    dim: int


@dataclass(frozen=True)
class Task:
    """A task as a table; the order in a table is the order of computation and of columns.

    Attributes:
        scene: `scene(config, looks="none")` builds the MuJoCo scene: as it is simulated, or with looks
            ("primitives", "menagerie") that change nothing but the picture.
        reader: `reader(env)` returns a function without arguments that reads the state off the
            simulations once a step: everything that the terms are functions of.
        actions: builds the action terms, `actions(env) -> {name: ActionTerm}`.
        observations: group → name → function of the state, `(num_envs, d)`.
        rewards: name → function of the state, `(num_envs,)`, before its weight.
        terminations: name → function of the state, `(num_envs,)` bool; time-out is built in.
        success: function of the state, `(num_envs,)` bool: what an evaluation counts at an episode's end.
            None: the task knows no success, and the return is its score.
        metrics: name → function of the state, `(num_envs,)`, logged at an episode's end.
        commands: name → `Command`.
        events: name → `event(env, env_ids, **parameters)`: what happens when an episode starts, or, where
            its settings say `every_s: [low, high]`, again and again within it, after a time drawn from there.
        curriculum: name → `curriculum(env, **parameters)`, asked once a step of training.
        memory: name → size of a tensor that is zero at an episode's start, `env.memory[name]`.
        remember: `remember(env, state)` writes the memory, once a step before the terms are computed.
        reward_rates: rewards are rates, and a step's share is weight · term · step_dt; False: they are
            amounts, weight · term, as Gymnasium counts.
        current_fields: derived fields (`xpos` …) describe the state at a step's end; False: they are as
            `mj_step` leaves them, up to a substep behind, as Gymnasium reads them.
        poses_only: no derived field but poses (`xpos`, `site_xmat`, `xaxis` …) is read, which is quicker.
        recorded: on a GPU `reader`, `remember`, action terms and all functions of the state may be recorded
            as a CUDA graph at the third step, and Python is then not asked again. False: something in them
            changes from step to step that is no tensor, or a tensor that does not stay in its place.
    """

    scene: Callable[..., mujoco.MjSpec]
    reader: Callable[[Any], Callable[[], Any]]
    actions: Callable[[Any], dict[str, Any]]
    observations: Mapping[str, Mapping[str, TermFunction]]
    rewards: Mapping[str, TermFunction]
    success: TermFunction | None = None
    terminations: Mapping[str, TermFunction] = field(default_factory=dict)
    metrics: Mapping[str, TermFunction] = field(default_factory=dict)
    commands: Mapping[str, Command] = field(default_factory=dict)
    events: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    curriculum: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    remember: Callable[[Any, Any], None] | None = None
    reward_rates: bool = True
    current_fields: bool = True
    poses_only: bool = False
    recorded: bool = True


class Measures(Mapping[str, torch.Tensor]):
    """A task's metrics of one state, `(num_envs,)` each, computed when they are first asked for."""

    def __init__(self, metrics: Mapping[str, TermFunction], state: Any) -> None:
        """Ask before the next step: the state may be read off the simulations."""
        self._metrics, self._state = metrics, state
        self._known: dict[str, torch.Tensor] = {}

    def read(self) -> None:
        """Compute all of them, before the state changes."""
        self._known = dict(self)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._known:
            self._known[name] = self._metrics[name](self._state)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)


# What a section's settings hold besides the parameters of the term's function.
_OWN_SETTINGS = {
    "rewards": {"weight"},
    "terminations": set(),
    "observations": {"scale", "noise"},
    "commands": {"resampling_time_s"},
    "events": set(),
    "curriculum": set(),
}
# Those that may be left out.
_OPTIONAL_SETTINGS = {"events": {"every_s"}, "observations": {"history_steps", "delay_steps"}}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return value is None or (pair and value[0] <= value[1])


# What such a setting has to be, and how to say it.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("weight", "scale", "noise", "resampling_time_s"), (_is_number, "a number")),
    "every_s": (_is_range, "[low, high] in s"),
}


def check_tables(task: Task, config: Any) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each difference between a task's tables and its YAML sections."""
    for section in ("rewards", "terminations", "commands", "events", "curriculum"):
        yield from _check_section(section, section, getattr(task, section), getattr(config, section))
    yield from _check_names("observations", task.observations, config.observations)
    for group in task.observations.keys() & config.observations.keys():
        key = f"observations.{group}"
        yield from _check_section("observations", key, task.observations[group], config.observations[group])


def _check_names(key: str, table: Mapping[str, Any], settings: Settings) -> Iterator[tuple[str, str]]:
    for name in settings:
        if name not in table:
            near = difflib.get_close_matches(name, table, n=1)
            hint = f"; did you mean {key}.{near[0]}?" if near else ""
            yield f"{key}.{name}", f"the task has no such term{hint} It has: {', '.join(table) or 'none'}"
    for name in table:
        if name not in settings:
            yield f"{key}.{name}", "the task has this term, the YAML does not; write its numbers, or null"


def _check_section(
    section: str, key: str, table: Mapping[str, Any], settings: Settings
) -> Iterator[tuple[str, str]]:
    yield from _check_names(key, table, settings)
    own, optional = _OWN_SETTINGS[section], _OPTIONAL_SETTINGS.get(section, set())
    for name in table.keys() & settings.keys():
        if settings[name] is None:
            continue
        given = set(settings[name]) - optional
        wanted = own | set(parameters(table[name]))
        for extra in sorted(given - wanted):
            near = difflib.get_close_matches(extra, wanted, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{key}.{name}.{extra}", f"no such parameter{hint} It takes: {', '.join(sorted(wanted))}"
        for missing in sorted(wanted - given):
            yield f"{key}.{name}.{missing}", "is missing"
        for setting in sorted((own | optional) & settings[name].keys() & _KINDS.keys()):
            right, told = _KINDS[setting]
            if not right(settings[name][setting]):
                yield f"{key}.{name}.{setting}", f"must be {told}, got {settings[name][setting]!r}"
        if section == "observations":
            yield from (
                (f"{key}.{name}.{setting}", text) for setting, text in history.problems(settings[name])
            )


def parameters(term: Any) -> list[str]:
    """Return the names of a term's parameters: its function's keyword-only arguments."""
    function = term.sample if isinstance(term, Command) else term
    signature = inspect.signature(function).parameters.values()
    return [p.name for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY]


def split(section: str, term: Any, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a term's settings into the section's own ones and the function's parameters."""
    own = {name: settings[name] for name in _OWN_SETTINGS[section]}
    own |= {name: settings.get(name) for name in _OPTIONAL_SETTINGS.get(section, ())}
    return own, {name: settings[name] for name in parameters(term)}


def bind(section: str, table: Mapping[str, Any], settings: Settings) -> dict[str, tuple]:
    """Pair each term that is not switched off (null) with its own settings and its parameters."""
    return {
        name: (term, *split(section, term, settings[name]))
        for name, term in table.items()
        if settings[name] is not None
    }
