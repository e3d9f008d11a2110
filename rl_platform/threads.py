"""Sharing out processors between PyTorch's threads and our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def available_threads(asked: int | None) -> int:
    """Return `asked`, or as many threads as this process has processors."""
    if asked is not None:
        return asked
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let PyTorch have so many threads inside `with`, and what it had before outside.

    Threads of PyTorch that wait for work keep their processors busy, and the simulation wants them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ThreadsOfTwo:
    """Two pieces of PyTorch work side by side, each on half of some processors.

    Inside `with`, PyTorch may use them; outside, its number of threads is what it was: threads of PyTorch
    that wait for work keep their processors busy, and the simulation wants them.
    """

    def __init__(self, processors: int) -> None:
        """With one processor the pieces run one after the other."""
        self._each = max(1, processors // 2)
        self._before = self._each
        self._pool: ThreadPoolExecutor | None = None
        if processors > 1:
            self._pool = ThreadPoolExecutor(1, "beside", torch.set_num_threads, (self._each,))

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._each)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)

    def beside(self, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """Begin `function(*args)` on the other thread, without gradients; call the result to wait for it."""
        if self._pool is None:
            value = function(*args)
            return lambda: value
        return self._pool.submit(_without_gradients, function, *args).result


def _without_gradients(function: Callable[..., T], *args: Any) -> T:
    with torch.inference_mode():  # the mode belongs to a thread
        return function(*args)
