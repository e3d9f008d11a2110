"""Work that has to be handed to a device without looking at a number, tried where looking is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from rl_platform import chosen

aten = torch.ops.aten
# What gives Python a number, or a tensor whose size depends on numbers.
_LOOKS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.lift_fresh.default,  # a tensor made of Python's numbers is copied to the device, which is waited for
}
_INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


# The same in one go, which is no operation of PyTorch's.
_READS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}


class _Looks:
    """Counts the looks, and fails at the first that is one too many."""

    def __init__(self, allowed: int) -> None:
        self.seen, self._allowed = 0, allowed

    def count(self, what: Any) -> None:
        self.seen += 1
        assert self.seen <= self._allowed, f"{what} waits for the device"


class _Operations(TorchDispatchMode):
    def __init__(self, looks: _Looks) -> None:
        super().__init__()
        self._looks = looks

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        by_mask = func in _INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in _LOOKS or by_mask:
            self._looks.count(func)
        return func(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    def __init__(self, looks: _Looks) -> None:
        super().__init__()
        self._looks = looks

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READS:
            self._looks.count(func)
        return func(*args, **(kwargs or {}))


@contextmanager
def looking(allowed: int = 0) -> Iterator[_Looks]:
    """Fail at an operation that would make the host wait for a GPU, once more than `allowed`."""
    looks = _Looks(allowed)
    with _Operations(looks), _Reads(looks):
        yield looks


def may_look(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which may wait although what calls it may not."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return call


def run_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the platform treat the CPU as it does a GPU."""
    monkeypatch.setattr(chosen, "runs_behind", lambda device: True)
