"""Sums that go round; the ranks are threads here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
import torch.distributed as dist

from rl_platform.ring import Ring

T = TypeVar("T")


def on_each(ranks: int, act: Callable[[Ring, int], T]) -> list[T]:
    """Do something on each of several ranks at once; what they return, in their order."""
    store = dist.HashStore()

    def one(rank: int) -> T:
        ring = Ring(store, rank, ranks)
        try:
            return act(ring, rank)
        finally:
            ring.close()

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(one, range(ranks), timeout=60))


def test_ranks_that_have_parted_can_meet_again() -> None:
    store = dist.HashStore()

    def sums(rank: int) -> list[float]:
        found = []
        for _ in range(3):
            ring = Ring(store, rank, 2)
            x = torch.tensor([float(rank + 1)])
            ring.sum_(x)
            ring.close()
            found.append(x.item())
        return found

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(sums, range(2), timeout=60)) == [[3.0] * 3] * 2


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 1001, 3_000_000])  # fewer than ranks; more than a socket holds
def test_all_ranks_get_the_same_sum(ranks: int, size: int) -> None:
    parts = torch.randn(ranks, size, generator=torch.Generator().manual_seed(0))

    def summed(ring: Ring, rank: int) -> torch.Tensor:
        x = parts[rank].clone()
        ring.sum_(x)
        return x

    found = on_each(ranks, summed)
    torch.testing.assert_close(found[0], parts.sum(0))
    assert all(torch.equal(found[0], x) for x in found)


def test_one_sum_after_the_other_in_any_type_and_shape() -> None:
    def summed(ring: Ring, rank: int) -> list[float]:
        x = torch.full((2, 3), 2.0**53 * rank, dtype=torch.float64)
        x[0, 0] = float("nan") if rank else 1.0
        for _ in range(100):
            y = torch.tensor([1, rank])
            ring.sum_(y)
            assert y.tolist() == [3, 3]
        ring.sum_(x)
        return x.flatten().tolist()

    for values in on_each(3, summed):
        assert values[0] != values[0]
        assert values[1:] == [3 * 2.0**53] * 5


def test_a_rank_that_is_gone_is_noticed() -> None:
    """By all the others, also in the middle of a sum."""

    def summed(ring: Ring, rank: int) -> str:
        if rank == 1:
            return "gone"
        try:
            ring.sum_(torch.ones(3_000_000))
        except ConnectionError:
            return "noticed"
        return "nothing"

    assert on_each(3, summed) == ["noticed", "gone", "noticed"]
