"""Work that is the same each time, handed to a GPU as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[dict[str, Tensor]], Tensor]


class Recording(Protocol):
    """What a device was given to do, to be done again with the same memory."""

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write down what is launched in the `with` block, without doing it."""
        ...

    def replay(self) -> None:
        """Do it."""
        ...


class CudaGraph:
    """A recording by CUDA; see torch.cuda.CUDAGraph."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is recorded yet."""
        self._device = device
        self._graph = torch.cuda.CUDAGraph()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """See `Recording`."""
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(self._graph, capture_error_mode="thread_local"),
        ):
            yield

    def replay(self) -> None:
        """See `Recording`."""
        with torch.cuda.device(self._device):
            self._graph.replay()


class Recorded:
    """Does `work` as it is at first, and from the third call on out of a recording.

    Hundreds of small launches cost the host more time than a GPU needs for them. A recording knows addresses
    and Python's numbers, not names: besides its inputs, which are copied to where it reads them, `work` may
    use only tensors that stay where they are, and nothing else may change from call to call. It must not look
    at what is on the device, nor draw random numbers.
    """

    WARM_UP = 2  # calls, which load kernels and compile what is to be compiled

    def __init__(self, work: Work, recording: Callable[[], Recording]) -> None:
        """`work` makes a tensor of named tensors, whose shapes are the same at each call."""
        self._work, self._make = work, recording
        self._calls = 0
        self._recording: Recording | None = None
        self._inputs: dict[str, Tensor] = {}
        self._output = torch.empty(0)

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return a copy of what `work` makes of `inputs`."""
        self._calls += 1
        if self._calls <= self.WARM_UP:
            return self._work(dict(inputs))
        if self._recording is None:
            self._inputs = {name: x.clone() for name, x in inputs.items()}
            self._recording = self._make()
            with self._recording.recorded():
                self._output = self._work(dict(self._inputs))
        for name, x in inputs.items():
            self._inputs[name].copy_(x)
        self._recording.replay()
        return self._output.clone()
