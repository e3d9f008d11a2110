"""Rows of some environments: chosen by ids, or by a mask of all, with which nobody waits for the device.

`which` is `(k,)` int64, and then rows of them alone are passed around, k of them; or `(num_envs,)` bool, and
then there is a row for every environment, of which those that are chosen mean something.
"""

from __future__ import annotations

import torch
from torch import Tensor


def runs_behind(device: torch.device) -> bool:
    """Whether the host only hands in work there: to look at a number is then to wait for all before it."""
    return device.type != "cpu"


def is_mask(which: Tensor) -> bool:
    """Whether `which` is a mask, not ids."""
    return which.dtype == torch.bool


def fill(values: Tensor, which: Tensor, number: float, dim: int = 0) -> None:
    """Set the chosen rows of `values`, along `dim`, to a number, in place."""
    if is_mask(which):
        values.masked_fill_(_along(which, values, dim), number)
    else:
        values.index_fill_(dim, which, number)


def take(values: Tensor, which: Tensor) -> Tensor:
    """The rows that are passed around: those of the ids, or all of them."""
    return values if is_mask(which) else values.index_select(0, which)


def put(values: Tensor, which: Tensor, own: Tensor, dim: int = 0) -> None:
    """Write `own` into the chosen rows of `values`, along `dim`, in place."""
    if is_mask(which):
        values.copy_(torch.where(_along(which, values, dim), own, values))
    else:
        values.index_copy_(dim, which, own)


def replaced(values: Tensor, which: Tensor, own: Tensor) -> Tensor:
    """A copy of `values` with `own` in the chosen rows."""
    if is_mask(which):
        return torch.where(_along(which, values, 0), own, values)
    return values.index_copy(0, which, own)


def _along(mask: Tensor, values: Tensor, dim: int) -> Tensor:
    return mask.view(-1, *(1,) * (values.ndim - dim - 1))
