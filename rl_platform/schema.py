"""Values checked against dataclasses: names, types, ranges. Every mistake is found, not only the first."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NOTHING = object()
# What other libraries call a value, by the last part of its key → what it is called here.
VALUES = {
    "lr_schedule": {"constant": "fixed", "identity": "fixed", "none": "fixed", "null": "fixed"},
    "normalize_advantage": {"true": "batch", "false": "none"},
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        key: dotted, from the configuration's root.
        message: what was given and what is allowed.
        hint: what to type instead; empty if there is nothing to propose.
    """

    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """One or two lines for people."""
        return f"{self.key}: {self.message}" + (f"\n    → {self.hint}" if self.hint else "")


class WrongType(ValueError):  # noqa: N818 - never seen by a user
    """A value is not what its annotation asks for; the message says what that is."""


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice most like `word`, or None if none is like it."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return found[0] if found else None


def renamed(key: str, value: Any) -> str | None:
    """What a key's value of other libraries is called here."""
    return VALUES.get(key.rpartition(".")[2], {}).get(shown(value).lower())


def join(*parts: str) -> str:
    """Dotted key of its non-empty parts."""
    return ".".join(part for part in parts if part)


def shown(value: Any) -> str:
    """The value as one would type it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(shown(v) for v in value) + "]"
    return str(value)


def validate(
    schema: type, values: Any, path: str = "", defaults: Mapping[str, Any] | None = None
) -> tuple[Any, list[Problem]]:
    """Build `schema(**values)` and report every key that is unknown, missing, ill-typed or out of range.

    Args:
        schema: a dataclass without defaults, whose `check()`, if it has one, yields (key, message)
            for each value out of range.
        values: a mapping with plain values (no interpolations left).
        path: dotted key of `values` in the configuration, for the messages.
        defaults: values known to be good. They stand in for bad ones, so that the ranges of the
            other values can still be checked, and are named in the hints.

    Returns:
        The instance, None if it cannot be built, and the problems.
    """
    if not isinstance(values, Mapping):
        return None, [Problem(path, f"must hold keys and values, got {shown(values)}")]
    defaults = defaults if isinstance(defaults, Mapping) else {}
    hints = _hints(schema)
    names = [key_of(field.name) for field in dataclasses.fields(schema)]
    problems = [_unknown(join(path, str(key)), key, names) for key in values if key not in names]
    arguments: dict[str, Any] = {}
    for name in names:
        key, known = join(path, name), defaults.get(name, _NOTHING)
        if name in values:
            found, bad = _convert(hints[name], values[name], key, None if known is _NOTHING else known)
        else:
            hint = "" if known is _NOTHING else f"write {key}={shown(known)}"
            found, bad = None, [Problem(key, f"is missing: {expected(hints[name])}", hint)]
        problems += bad
        if bad and found is None and known is not _NOTHING:
            found, bad = _convert(hints[name], known, key, None)
        if not bad or found is not None:
            arguments[name] = found
    if len(arguments) < len(names):
        return None, problems
    instance = schema(**{field.name: arguments[key_of(field.name)] for field in dataclasses.fields(schema)})
    reported = {problem.key for problem in problems}
    ranges = [problem for problem in _ranges(instance, path, defaults) if problem.key not in reported]
    return instance, problems + ranges


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    """The annotation of each key."""
    return {key_of(name): hint for name, hint in get_type_hints(schema).items()}


def key_of(field: str) -> str:
    """Name the key of a dataclass's field: `import_` is `import`, a word that Python keeps to itself."""
    return field.removesuffix("_")


def to_plain(instance: Any) -> Any:
    """Turn a dataclass instance, and those inside it, into dicts, lists and scalars."""
    if dataclasses.is_dataclass(instance) and not isinstance(instance, type):
        return {
            key_of(field.name): to_plain(getattr(instance, field.name))
            for field in dataclasses.fields(instance)
        }
    if isinstance(instance, Mapping):
        return {key: to_plain(value) for key, value in instance.items()}
    if isinstance(instance, list | tuple):
        return [to_plain(value) for value in instance]
    return instance


def expected(annotation: Any) -> str:
    """Say in words what an annotation allows."""
    origin, args = get_origin(annotation), get_args(annotation)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if annotation in words:
        return words[annotation]
    if origin is Literal:
        return "one of " + ", ".join(shown(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(arg) for arg in args)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return f"a list of {len(args)} values"
    if origin in (list, tuple, Sequence):
        return "a list" + (f" with {expected(args[0])} for each element" if args else "")
    if dict in (annotation, origin) or origin is Mapping or dataclasses.is_dataclass(annotation):
        return "keys and values"
    return "any value"


def _unknown(path: str, key: Any, names: Sequence[str]) -> Problem:
    match = nearest(str(key), names)
    parent = path.rpartition(".")[0]
    allowed = f"no such key; {parent or 'the configuration'} has {', '.join(names) or 'no keys'}"
    return Problem(path, allowed, f"did you mean {join(parent, match)}?" if match else "")


def _convert(annotation: Any, value: Any, key: str, default: Any) -> tuple[Any, list[Problem]]:
    """Return the value as its annotation wants it, None and a problem if that cannot be done."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return validate(annotation, value, key, default)
    if get_origin(annotation) in (dict, Mapping) and Any in get_args(annotation):
        return _like(default, value, key) if isinstance(value, Mapping) else _refused(annotation, value, key)
    optional = [arg for arg in get_args(annotation) if dataclasses.is_dataclass(arg)]
    if optional and value is not None:
        return _convert(optional[0], value, key, default)
    try:
        return _scalar(annotation, value), []
    except WrongType:
        return _refused(annotation, value, key, default)


def _refused(annotation: Any, value: Any, key: str, default: Any = None) -> tuple[None, list[Problem]]:
    choices = [str(arg) for arg in get_args(annotation)] if get_origin(annotation) is Literal else []
    good = default is not None and default != value  # what a file has is no example
    called = renamed(key, value)
    match = nearest(called or str(value), choices) if choices else called
    match = match or (shown(default) if good else None)
    if str(value).lower() in ("none", "nil") and type(None) in get_args(annotation):
        match = "null"
    hint = f"write for example {key}={match}" if match else ""
    return None, [Problem(key, f"must be {expected(annotation)}, got {shown(value)}", hint)]


def _like(default: Any, value: Any, key: str) -> tuple[Any, list[Problem]]:
    """Check free keys and values by the example of those that are known to be good.

    Returns:
        The value, with the known one in place of each bad one, and the problems.
    """
    if default is None or (value is None and isinstance(default, Mapping)):
        return value, []  # null switches a term on or off
    if isinstance(default, Mapping) and isinstance(value, Mapping):
        parts = {str(k): _like(default.get(k), v, f"{key}.{k}") for k, v in value.items()}
        found = {k: part for k, (part, _) in parts.items()}
        return found, [problem for _, problems in parts.values() for problem in problems]
    kind: Any = type(default)
    if isinstance(default, Mapping):
        kind = dict
    elif isinstance(default, list):
        kind = list[Any]
    elif isinstance(default, int) and not isinstance(default, bool):
        kind = float if isinstance(value, float) else int  # 20 may become 20.5
    try:
        return _scalar(kind, value), []
    except WrongType:
        return default, _refused(kind, value, key, default)[1]


def _scalar(annotation: Any, value: Any) -> Any:
    """Convert a value without dataclasses in it.

    Raises:
        WrongType: the value is not what the annotation asks for.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Literal:
        if any(value == arg and type(value) is type(arg) for arg in args):
            return value
        raise WrongType(value)
    if origin in (Union, types.UnionType):
        for arg in args:
            try:
                return _scalar(arg, value)
            except WrongType:
                continue
        raise WrongType(value)
    if origin in (list, tuple, Sequence):
        return _sequence(origin, args, value)
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise WrongType(value)
        return {str(k): _scalar(args[1], v) if args else v for k, v in value.items()}
    return _atom(annotation, value)


def _sequence(origin: Any, args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise WrongType(value)
    fixed = origin is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(value):
        raise WrongType(value)
    kinds = args if fixed else [args[0] if args else Any] * len(value)
    items = [_scalar(kind, item) for kind, item in zip(kinds, value, strict=True)]
    return tuple(items) if origin is tuple else items


def _atom(annotation: Any, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is float and number and not math.isnan(value):
        return float(value)
    if annotation is int and number and math.isfinite(value) and value == int(value):
        return int(value)  # 1e6 is a whole number too
    if annotation is str and number:
        return str(value)  # run_name=7
    if annotation in (bool, str, type(None)) and isinstance(value, annotation):
        return value
    raise WrongType(value)


def _ranges(instance: Any, path: str, defaults: Mapping[str, Any]) -> Iterator[Problem]:
    """What the instance's own `check()` finds; those of dataclasses inside it were asked already."""
    for key, message in getattr(instance, "check", tuple)():
        default: Any = defaults
        value: Any = instance
        for part in key.split("."):
            default = default.get(part) if isinstance(default, Mapping) else None
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if value == default:  # what a file has is no example
            default = None
        example = renamed(key, value) or (shown(default) if default is not None else "")
        hint = f"write for example {join(path, key)}={example}" if example else ""
        yield Problem(join(path, key), message, hint)
