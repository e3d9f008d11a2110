"""A task's terms, tried before any work starts and watched later: a mistake in one is told by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from rl_platform.errors import NonFiniteError, UserError

Bound = Mapping[str, tuple[Callable[..., Any], Any, Mapping[str, Any]]]


def column_counts(group: str, terms: Bound, state: Any, num_envs: int) -> list[int]:
    """Evaluate a group of observations; return each term's columns.

    Raises:
        UserError: a term fails, or does not give `(num_envs, d)`; with its name and where it is written.
    """
    sizes = []
    for name, (function, _, parameters) in terms.items():
        what = f"observation {group}/{name}"
        values = _evaluate(what, function, state, parameters)
        if values.ndim != 2 or len(values) != num_envs:
            raise UserError(_wrong_shape(what, function, values, f"({num_envs}, d)"))
        sizes.append(values.shape[1])
    return sizes


def one_value_each(section: str, terms: Mapping[str, Any], state: Any, num_envs: int) -> None:
    """Evaluate functions that are to give each environment one value, `(num_envs,)`.

    Args:
        section: what they are: "reward", "termination", "metric" or "success"; true or false are
            what terminations and success have to be.
        terms: name → function, or (function, settings, parameters).
        state: what they are functions of.
        num_envs: environments.

    Raises:
        UserError: a term fails or gives something else; with its name and where it is written.
    """
    for name, term in terms.items():
        function, _, parameters = term if isinstance(term, tuple) else (term, None, {})
        what = section if name == section else f"{section} {name}"
        values = _evaluate(what, function, state, parameters)
        if values.shape != (num_envs,):
            raise UserError(_wrong_shape(what, function, values, f"({num_envs},)"))
        if section in ("termination", "success") and values.dtype != torch.bool:
            raise UserError(f"{what}{_where(function)} gives {values.dtype}; it must give torch.bool")


def raise_if_bad(name: str, values: torch.Tensor) -> None:
    """Raise a `NonFiniteError` if something in `values` `(num_envs, d)` is NaN or infinite."""
    bad = ~torch.isfinite(values).all(1)
    if bad.any():
        env_id = int(bad.nonzero()[0])
        raise NonFiniteError(
            f"{name} is not finite in environment {env_id}: {values[env_id].tolist()}", env_id
        )


class Watch:
    """Remembers on the device what was not finite there, so that nobody waits for it before `look`."""

    def __init__(self, device: torch.device) -> None:
        """Nothing was seen yet."""
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._never = torch.full_like(self._count, 1 << 40)
        # of each number that was seen: the first time that it was not finite, as `add` counts
        self._first: dict[tuple[str, ...], torch.Tensor] = {}

    def add(self, columns: tuple[str, ...], values: torch.Tensor) -> None:
        """See `values` `(num_envs, len(columns))`; `columns` says what each column is, for people."""
        self._count += 1
        if columns not in self._first:
            self._first[columns] = self._never.repeat(values.shape)
        first = self._first[columns]
        torch.minimum(first, torch.where(values.isfinite(), self._never, self._count), out=first)

    @torch.inference_mode()
    def look(self) -> None:
        """Forget what was seen.

        Raises:
            NonFiniteError: some of it was NaN or infinite; with the name of the first such column.
        """
        if not self._first:
            return
        *times, never = torch.stack([*(first.min() for first in self._first.values()), self._never]).tolist()
        told = ""
        if min(times) < never:
            columns, first = list(self._first.items())[times.index(min(times))]
            column, env_id = (first.t() == min(times)).nonzero()[0].tolist()
            told = f"{columns[column]} is not finite in environment {env_id}"
        self._count.zero_()
        for first in self._first.values():
            first.copy_(self._never)
        if told:
            raise NonFiniteError(told, env_id)


def call(what: str, function: Callable[..., Any], *arguments: Any, **parameters: Any) -> Any:
    """Call a function of a task.

    Raises:
        UserError: it fails; with `what` it is, and where it is written.
    """
    try:
        return function(*arguments, **parameters)
    except (UserError, NonFiniteError):
        raise
    except Exception as error:
        raise UserError(f"{what}{_where(function)} fails: {type(error).__name__}: {error}") from error


def _evaluate(
    what: str, function: Callable[..., Any], state: Any, parameters: Mapping[str, Any]
) -> torch.Tensor:
    values = call(what, function, state, **parameters)
    if not isinstance(values, torch.Tensor):
        raise UserError(
            f"{what}{_where(function)} gives {type(values).__name__}; it must give a torch.Tensor"
        )
    return values


def _wrong_shape(what: str, function: Callable[..., Any], values: torch.Tensor, right: str) -> str:
    return f"{what}{_where(function)} has the shape {tuple(values.shape)}; it must be {right}, num_envs first"


def _where(function: Callable[..., Any]) -> str:
    """Where a function is written, " (file:line)"; nothing for what has no code of its own."""
    code = getattr(function, "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
