"""A recording as CUDA makes one, on the CPU: the operations with their memory, done again as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


class Tape:
    """See `recorded.Recording`; what is recorded is done at once, so not at the next replay.

    `made`: where it puts itself.
    """

    def __init__(self, made: list[Tape] | None = None) -> None:
        self._tape = _Tape()
        self.replays = 0
        if made is not None:
            made.append(self)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        with self._tape:
            yield

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        for func, args, kwargs, result in self._tape.operations:
            memory = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(result), _tensors(again), strict=True):
                if old.untyped_storage().data_ptr() not in memory:  # else a view, or written in place
                    old.copy_(new)
