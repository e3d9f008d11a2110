from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from rl_platform.recorded import Recorded
from tests.tape import Tape


def test_a_recording_does_what_the_work_did() -> None:
    weight, count = torch.ones(3), torch.zeros(())

    def work(inputs: dict[str, Tensor]) -> list[Tensor]:
        rows = inputs["x"][1:].t()
        count.add_(1.0)
        inputs["x"] = rows.exp()  # the caller's own stays
        weight.mul_(rows.sum(1)).clamp_(-10.0, 10.0)
        return [torch.stack([weight.sum(), inputs["x"].sum() + count]), rows]

    tapes: list[Tape] = []
    recorded = Recorded(work, lambda: Tape(tapes))
    outputs = []
    for call in range(6):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(call))
        outputs.append((x, recorded({"x": x})))
    assert len(tapes) == 1
    assert tapes[0].replays == 6 - Recorded.WARM_UP
    found = weight.clone()
    weight.fill_(1.0)
    count.zero_()
    for x, output in outputs:
        assert all(map(torch.equal, work({"x": x}), output))
    assert torch.equal(weight, found)


def test_what_changes_in_python_is_not_seen_by_a_recording() -> None:
    """So the tape can show a piece of work that must not be recorded."""
    calls = []

    def work(inputs: dict[str, Tensor]) -> list[Tensor]:
        calls.append(1)
        return [inputs["x"] * len(calls)]

    recorded = Recorded(work, Tape)
    assert [recorded({"x": torch.ones(())})[0].item() for _ in range(5)] == [1, 2, 3, 3, 3]


def test_work_that_cannot_be_recorded_goes_on_as_it_is() -> None:
    class Refuses(Tape):
        @contextmanager
        def recorded(self) -> Iterator[None]:
            yield
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    recorded = Recorded(lambda inputs: [inputs["x"] + 1.0], Refuses, "a step")
    with pytest.warns(
        UserWarning, match="a step cannot be recorded as a CUDA graph: operation not permitted"
    ):
        assert [recorded({"x": torch.ones(()) * k})[0].item() for k in range(5)] == [1, 2, 3, 4, 5]
