"""What the user meant: the nearest option, the nearest key, the right group of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_platform.other_names import (
    ADVICE,
    ALIASES,
    DASHED,
    FLAGS,
    OF_COMMANDS,
    OFF,
    ON,
    OPTIONS,
    OWN_FILES,
    TASKS,
    UNSAID,
    WITHOUT,
    WORDS,
    Advice,
    as_number,
    said,
)
from rl_platform.schema import Problem, nearest, renamed, shown

ABSENT = object()
OPEN = object()  # not there, but its parent is empty: its own schema knows what may be put in

NAME = "NAME"  # stands for an option of a group
GROUP_ORDER = ("env", "algo", "agent", "logger", "launcher", "sweeper")


def lookup(values: Mapping[Any, Any], key: str) -> Any:
    """Return what is at a dotted key (lists by index), `OPEN` or `ABSENT`."""
    node: Any = values
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return OPEN if (node is None or node == {} or node is OPEN) and node is not values else ABSENT
    return node


def option(group: str, given: str, groups: Mapping[str, Sequence[str]]) -> Problem:
    """Describe a group's option that does not exist."""
    match = _option(group, given, groups)
    elsewhere = [name for name, options in groups.items() if given in options]
    hint = WITHOUT.get(group, "")
    if match:
        hint = f"did you mean {group}={match}?"
    elif elsewhere:
        hint = f"{given} is an option of {elsewhere[0]}: write {elsewhere[0]}={given}"
    if group == "env" and re.fullmatch(r"(?!Isaac)[\w/]+-v\d+", given):
        hint = f"{hint} Any of Gymnasium's is env=gymnasium env.id={given}".lstrip()
    return Problem(f"{group}={given}", f"no such {group}; there are {', '.join(sorted(groups[group]))}", hint)


def key(text: str, given: str, values: Mapping[Any, Any], groups: Mapping[str, Sequence[str]]) -> Problem:
    """Describe a key that does not exist; `text` is the whole override."""
    value = text.partition("=")[2]
    own = {name: node for name, node in values.items() if name != "hydra"}
    known = list(_keys(own))
    if advice := _advice(given, own, known):
        return Problem(text, f"there is no key {given}", _told(advice, value, own))
    names = _candidates(given, known, groups)
    matches = [_offer(name, value, own, groups) for name in names]
    sure = matches and _leaf(names[0]) == _leaf(given)
    hint = f"write {', or '.join(matches)}" if sure else f"did you mean {' or '.join(matches)}?"
    if matches and matches[0].endswith(f"={NAME}"):
        hint = f"write {matches[0]}; there are {', '.join(sorted(groups[names[0]]))}"
    return Problem(text, f"there is no key {given}", hint if matches else "")


def flag(name: str, value: str, values: Mapping[Any, Any], groups: Mapping[str, Sequence[str]]) -> str:
    """Say how a setting is written that was written like a flag; without a value, `value` is empty."""
    value = value or UNSAID
    if name in DASHED:
        return _told(DASHED[name], value, values)
    if name in groups and value not in groups[name]:
        hint = option(name, value, groups).hint if said(value) else ""
        return hint or f"write {_offer(name, value, values, groups)}"
    if lookup(values, name) is ABSENT:
        return key(f"{name}={value}", name, values, groups).hint
    return f"write {_offer(name, value, values, groups)}"


def stands_alone(name: str, values: Mapping[Any, Any]) -> bool:
    """Whether a flag of this name has no value in other libraries, or would be on or off here."""
    return name in FLAGS or isinstance(lookup(values, name), bool)


def of_command(name: str) -> str:
    """What to do where a command is given an option that only others have."""
    return OF_COMMANDS.get(name.replace("-", "_"), "")


def unreadable(
    text: str, groups: Mapping[str, Sequence[str]], commands: Iterable[str], keys: Iterable[str] = ()
) -> Problem:
    """Describe an argument that is not an override at all; `keys` are those of the configuration's top."""
    word, equals, value = text.partition("=")
    holders = [group for group, options in groups.items() if word in options]
    if not equals and holders:
        return Problem(text, f"{word} is an option of the group {holders[0]}", f"write {holders[0]}={word}")
    if not equals and word in keys:
        return Problem(text, f"{word} is a key", f"write {word}=…")
    if not equals and (task := _task(word, groups.get("env", ()))):
        return Problem(text, f"{word} is called {task} here", f"write env={task}")
    if not equals and Path(word, "run.json").is_file():
        return Problem(text, "is a run", f"write resume={word}; or eval {word}, or play {word}")
    if not equals and word in WORDS:
        return Problem(text, "is no command", f"write {WORDS[word]}")
    if not equals and Path(word).suffix in (".json", ".yaml", ".yml", ".toml"):
        return Problem(text, "is no key=value", OWN_FILES)
    if not equals or " " in word:
        options = [name for names in groups.values() for name in names]
        alike = nearest(word, [*commands, *options])
        meant = f"did you mean {alike}? " if alike else ""
        return Problem(text, "is no command and no key=value", f"{meant}Settings are written env=lift")
    if value.count("'") + value.count('"') or not value:
        return Problem(text, "cannot be read", "look at its quotes and brackets")
    return Problem(text, "cannot be read", f"with special characters in it, write \"{word}='{value}'\"")


def _option(group: str, given: str, groups: Mapping[str, Sequence[str]]) -> str | None:
    """The option that `given` may stand for."""
    name = OPTIONS.get(given.lower(), given.lower())
    if name in groups[group]:
        return name
    return (_task(given, groups[group]) if group == "env" else None) or nearest(name, groups[group])


def _task(given: str, options: Sequence[str]) -> str | None:
    """Our name of a task that another library calls so: Isaac-Cartpole-v0, HalfCheetah-v5."""
    name, version = re.fullmatch(r"(?:Isaac-)?(.*?)(?:-v(\d+))?", given, re.DOTALL).groups()  # type: ignore[union-attr]
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()
    plain = re.sub(r"(_(play|direct|ik_rel|ik_abs))+$", "", snake)  # variants of one task
    ours = (f"{snake}_v{version}", TASKS.get(plain), plain)
    return next((one for one in ours if one in options), None)


def _advice(given: str, values: Mapping[Any, Any], known: Iterable[str]) -> Advice | None:
    """What to do instead, by the longest end of a dotted key; not where some key here has that name."""
    parts = given.split(".")
    ends = [".".join(parts[start:]) for start in range(len(parts))]
    found = next((end for end in ends if end in ADVICE), None)
    if found is None or any(
        _leaf(name) == found and not isinstance(lookup(values, name), Mapping) for name in known
    ):
        return None
    return ADVICE[found]


def _told(advice: Advice, value: str, values: Mapping[Any, Any]) -> str:
    return advice if isinstance(advice, str) else advice(value, values)


def _offer(name: str, value: str, values: Mapping[Any, Any], groups: Mapping[str, Sequence[str]]) -> str:
    """`name=value` with the value given, or with one that this key may have."""
    if name in groups:
        whole = value in groups[name] or re.search(r"[\[,]", value)
        return f"{name}={value if whole else _option(name, value, groups) or NAME}"
    value = renamed(name, value) or value
    example = lookup(values, name)
    if isinstance(example, bool) and value.lower() in (UNSAID, *ON, *OFF):
        value = shown(value.lower() not in OFF)
    if not value:
        return name
    return f"{name}={value if _fits(value, example) else shown(example)}"


def _fits(value: str, example: Any) -> bool:
    """Whether a text may be of the type of a value that is right; a doubt counts as yes."""
    if value in (UNSAID, "null") or re.search(r"[,(]|\$\{", value.partition("[")[0]):  # several values
        return True
    if isinstance(example, bool):
        return value.lower() in ("true", "false")
    if isinstance(example, int | float):
        return as_number(value) is not None
    if isinstance(example, str):
        return value.lower() not in ("true", "false") and not value.startswith(("[", "{"))
    return not isinstance(example, list) or value.startswith("[")


def _candidates(given: str, known: list[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys that `given` may stand for, best first."""
    parent, _, leaf = given.rpartition(".")
    leaf = ALIASES.get(leaf, leaf)
    if leaf in groups and not parent:
        return [leaf]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    loosely = 0.6 if parent else 0.7  # within a section there are few names to mistake it for
    for pool, cutoff in ((known, 1.0), (siblings, 0.85), (known, 0.9), (siblings, loosely), (known, 0.75)):
        match = nearest(leaf, {_leaf(name) for name in pool}, cutoff)
        found = [name for name in pool if _leaf(name) == match]
        if found:
            near = [name for name in found if parent and nearest(name.split(".")[0], [parent.split(".")[0]])]
            return sorted(near or found, key=_rank)[:4]
    match = nearest(given, groups) if not parent else None
    return [match] if match else []


def _rank(name: str) -> int:
    """The parts of a run that people mean first come first."""
    group = name.split(".")[0]
    return GROUP_ORDER.index(group) if group in GROUP_ORDER else len(GROUP_ORDER)


def _keys(values: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    for name, node in values.items():
        full = f"{path}.{name}" if path else str(name)
        yield full
        if isinstance(node, Mapping):
            yield from _keys(node, full)


def _leaf(dotted: str) -> str:
    return dotted.rpartition(".")[2]
