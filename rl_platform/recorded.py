"""Work that is the same each time, handed to a GPU as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[dict[str, Tensor]], list[Tensor]]


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
    at what is on the device, nor draw random numbers from a generator of its own.

    Work that cannot be recorded goes on as it is, with a warning: where CUDA refuses, and where a call
    changes something of what `held` tells, the tensors and numbers by name that `work` is known to keep.
    """

    WARM_UP = 2  # calls, which load kernels and compile what is to be compiled

    def __init__(
        self,
        work: Work,
        recording: Callable[[], Recording],
        what: str = "work",
        held: Callable[[], dict[str, object]] = dict,
    ) -> None:
        """`work` makes tensors of named tensors, whose shapes are the same at each call; `what` names it."""
        self._work, self._make, self._what, self._held = work, recording, what, held
        self._calls = 0
        self._possible = True
        self._recording: Recording | None = None
        self._inputs: dict[str, Tensor] = {}
        self._outputs: list[Tensor] = []

    def __call__(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Return copies of what `work` makes of `inputs`."""
        self._calls += 1
        if self._calls > self.WARM_UP and self._possible and self._recording is None:
            self._record(inputs)
        if self._recording is None:
            return self._work_as_it_is(inputs)
        for name, x in inputs.items():
            self._inputs[name].copy_(x)
        self._recording.replay()
        return [x.clone() for x in self._outputs]

    def _work_as_it_is(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        if not self._possible:
            return self._work(dict(inputs))
        before = self._held()
        outputs = self._work(dict(inputs))
        after = self._held()
        changed = [name for name, value in before.items() if name in after and not _same(after[name], value)]
        if changed:
            self._give_up(f"{changed[0]} is another after each, so write it in place (copy_).")
        return outputs

    def _record(self, inputs: dict[str, Tensor]) -> None:
        recording = self._make()
        self._inputs = {name: x.clone() for name, x in inputs.items()}
        try:
            with recording.recorded():
                self._outputs = self._work(dict(self._inputs))
        except RuntimeError as error:
            self._give_up(str(error).partition("\n")[0])
        else:
            self._recording = recording

    def _give_up(self, reason: str) -> None:
        self._possible = False
        told = f"{self._what} cannot be recorded as a CUDA graph: {reason} It goes on without, more slowly."
        warnings.warn(told, stacklevel=2)


def _same(one: object, other: object) -> bool:
    return one is other or (not isinstance(one, Tensor) and one == other)
