"""The state of a training on several ranks, put together as if one rank had it all, and taken apart again.

A checkpoint holds the whole, so that any number of ranks can go on from it. What belongs to single
environments has a row for each: `env`, `obs`, and `envs` of the algorithm's state. All else is the same on
every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# Of an environment's state, what does not have its rows in front: what has them second (`envs/log.py`,
# `envs/delays.py`, `envs/history.py`), and sums over the episodes that ended.
_SECOND, _SUMS = ("running", "actions", "frames"), ("totals",)


def join(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put together the trainer's states of all ranks, in their order; tensors of rows move to the CPU."""
    if len(states) == 1:
        return states[0]
    whole = dict(states[0])
    for name in ("env", "obs"):
        whole[name] = _join([state[name] for state in states])
    rows = [state["algo"].get("envs", {}) for state in states]
    whole["algo"] = states[0]["algo"] | {"envs": _join(rows)}
    return whole


def part(state: dict[str, Any], start: int, size: int, total: int) -> dict[str, Any]:
    """The part of a whole state for the environments `start … start + size - 1` of `total`."""
    if size == total:
        return state
    rows = slice(start, start + size)
    own = {name: _part(state[name], rows) for name in ("env", "obs")}
    algo = state["algo"] | {"envs": _part(state["algo"].get("envs", {}), rows)}
    return state | own | {"algo": algo}


def _join(values: list[Any], name: str = "") -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {key: _join([value[key] for value in values], key) for key in first}
    if not isinstance(first, torch.Tensor):
        return first
    tensors = [value.cpu() for value in values]
    return sum(tensors) if name in _SUMS else torch.cat(tensors, dim=int(name in _SECOND))


def _part(value: Any, rows: slice, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _part(one, rows, key) for key, one in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    if name in _SUMS:
        return value if rows.start == 0 else torch.zeros_like(value)
    return value[:, rows] if name in _SECOND else value[rows]
