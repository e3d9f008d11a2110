"""What several ranks must agree on. In a single process every function is a no-op.

Every rank calls these functions in the same order; the results are identical on all of them. A rank that
fails says why (`tell_failure`) and ends; the others notice at their next common step that it is gone.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rl_platform.errors import NonFiniteError, RankLostError, UserError
from rl_platform.place import Place
from rl_platform.ring import Ring
from rl_platform.tensor_math import Moments, batch_moments

T = TypeVar("T")
# Until the ranks have met: imports from a busy disk take their time.
_MEET = timedelta(minutes=30)
# Between two common steps: rank 0 may evaluate for long. A rank that is gone is noticed at once by its
# connections, which its system closes.
_WAIT = timedelta(days=7)
_JOB, _FAILURE = "job", "failure"
_store: dist.Store | None = None
_ring: Ring | None = None


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@dataclass(frozen=True)
class Shard:
    """The rows that this rank has of `total`.

    Attributes:
        start: of its rows among all.
        size: how many.
        total: of all ranks together.
    """

    start: int
    size: int
    total: int

    def of(self, rows: Tensor) -> Tensor:
        """This rank's part of `rows` (total, …)."""
        return rows if self.size == self.total else rows[self.start : self.start + self.size]


def whole(size: int) -> Shard:
    """All rows, of one rank alone."""
    return Shard(0, size, size)


def shard(size: int) -> Shard:
    """The rows of this rank where each has `size`."""
    return Shard(rank() * size, size, world_size() * size)


def meet(place: Place) -> dist.Store:
    """Return what the ranks share before they are a group: texts by name."""
    global _store
    if _store is None:
        host = place.rank == 0 and not place.hosted
        with _peers_alive():
            store = dist.TCPStore(place.address, place.port, None, host, _MEET, wait_for_workers=False)
        _store = shared(store, place.attempt)
    return _store


def shared(store: dist.Store, attempt: int) -> dist.Store:
    """The part of a launcher's store that the ranks of one attempt use."""
    return dist.PrefixStore(f"rl_platform/{attempt}", store)


def announce(place: Place, job: dict[str, Any]) -> None:
    """Tell the other ranks what rank 0 is going to train, in plain values."""
    meet(place).set(_JOB, json.dumps(job))


@contextmanager
def leading(place: Place) -> Iterator[None]:
    """Be rank 0 inside the `with` block: the others learn why it fails, or that it announces nothing."""
    try:
        yield
    except BaseException as error:
        tell_failure(place, error)
        raise
    finally:
        with suppress(RuntimeError):  # whoever keeps the store is gone, and the others with it
            store = meet(place)
            if not store.check([_JOB]):
                store.set(_JOB, "null")


def announced(place: Place) -> dict[str, Any] | None:
    """Wait for what rank 0 announces; None if it ended without training anything.

    Raises:
        RankLostError: rank 0 ended before.
    """
    with _peers_alive():
        return json.loads(meet(place).get(_JOB))


@contextmanager
def group(place: Place, device: str) -> Iterator[None]:
    """Make the ranks a group inside the `with` block, or until `leave`.

    Numbers on the CPU travel by gloo, those on a GPU by nccl; sums on the CPU of one machine by `ring`.
    """
    global _ring
    store = meet(place)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    if device != "cpu":
        torch.cuda.set_device(place.local_rank)
    with _peers_alive():
        dist.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.world_size, timeout=_WAIT
        )
        if place.local_world_size == place.world_size:
            _ring = Ring(store, place.rank, place.world_size)
    yield
    leave()  # not after an error: a rank that is gone would be waited for


def leave() -> None:
    """End the group: each rank is alone from here on."""
    global _ring
    if _ring is not None:
        _ring.close()
        _ring = None
    if dist.is_initialized():
        dist.destroy_process_group()


@dataclass(frozen=True)
class Failure:
    """What the first rank that failed said of it."""

    rank: int
    text: str


def tell_failure(place: Place, error: BaseException) -> bool:
    """Let the other ranks and the launcher know why this one ends; return whether it is the first to."""
    if isinstance(error, RankLostError):
        return False  # it is not this rank that failed
    text = str(error) if isinstance(error, UserError | NonFiniteError) else f"{type(error).__name__}: {error}"
    try:
        store = meet(place)
        if store.add(f"{_FAILURE}/count", 1) > 1:
            return False
        store.set(_FAILURE, json.dumps([place.rank, text]))
    except RuntimeError:  # the rank that keeps the store is gone
        return False
    return True


def failure(store: dist.Store | None) -> Failure | None:
    """What a rank said of its failure; None if none has said anything."""
    try:
        if store is not None and store.check([_FAILURE]):
            return Failure(*json.loads(store.get(_FAILURE)))
    except RuntimeError:
        pass
    return None


@contextmanager
def _peers_alive() -> Iterator[None]:
    """Turn what a broken connection raises into a RankLostError."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # every error of torch.distributed is the first
        told = failure(_store)
        what = f"rank {told.rank} failed: {told.text}" if told else f"another rank is gone ({_short(error)})"
        raise RankLostError(what) from error


def _short(error: BaseException) -> str:
    """The first line: the others are a trace of C++."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def totals(values: Sequence[float]) -> list[float]:
    """The sum over the ranks of each number."""
    if world_size() == 1:
        return list(values)
    return sum_reduce_(torch.tensor(values, dtype=torch.float64)).tolist()


def everyones(value: T) -> list[T]:
    """What each rank has, in the order of the ranks: plain values, small."""
    if world_size() == 1:
        return [value]
    data = pickle.dumps(value)
    sizes = [int(n) for n in totals([len(data) * (r == rank()) for r in range(world_size())])]
    rows = torch.zeros(len(sizes), max(sizes), dtype=torch.uint8)
    rows[rank(), : len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    sum_reduce_(rows)
    return [pickle.loads(row[:size].numpy().tobytes()) for row, size in zip(rows, sizes, strict=True)]


def gather(state: T) -> list[T] | None:
    """What each rank has, in the order of the ranks, for rank 0 alone; None on the others.

    `state`: as a checkpoint may hold it.
    """
    if world_size() == 1:
        return [state]
    data = io.BytesIO()
    torch.save(state, data)
    parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
    with _peers_alive():
        dist.gather_object(data.getvalue(), parts)
    if parts is None:
        return None
    return [torch.load(io.BytesIO(part), map_location="cpu", weights_only=True) for part in parts]


def sum_reduce_(x: Tensor) -> Tensor:
    """Replace `x`, contiguous, by its sum over the ranks, in place, and return it."""
    if world_size() > 1:
        with _peers_alive():
            if _ring is not None and x.device.type == "cpu":
                _ring.sum_(x)
            else:
                dist.all_reduce(x)
    return x


def pool_moments(parts: Sequence[Moments]) -> list[Moments]:
    """Moments of all the ranks' samples together, of several sets at once; a rank may have no sample.

    n = Σ n_r;  μ = Σ n_r μ_r / n;  M₂ = Σ M₂_r + n_r (μ_r - μ)²  (Chan, Golub, LeVeque 1979, eq. 2.1).
    """
    ranks = world_size()
    if ranks == 1:
        return list(parts)
    packed = torch.cat([torch.cat((p.n.reshape(1), p.mean.reshape(-1), p.m2.reshape(-1))) for p in parts])
    rows = packed.new_zeros(ranks, len(packed))  # what each rank has, in its row
    rows[rank()] = packed
    columns = iter(sum_reduce_(rows).split([n for p in parts for n in (1, *[p.mean.numel()] * 2)], dim=1))
    pooled = []
    for part in parts:
        n, mean, m2 = (next(columns) for _ in range(3))
        total = n.sum(0)
        middle = (n * mean).sum(0) / total
        spread = (m2 + n * (mean - middle).square()).sum(0)
        shape = part.mean.shape
        pooled.append(Moments(total.view(()), middle.view(shape), spread.view(shape)))
    return pooled


def standardize(x: Tensor, moments: Moments | None = None) -> Tensor:
    """Shift and scale `x` to zero mean and unit deviation over all samples of all ranks.

    `moments`: theirs (1,), if they are known.
    """
    if world_size() == 1:
        mean = x.mean()
        var = (x - mean).square().mean()
    else:
        if moments is None:
            (moments,) = pool_moments([batch_moments(x.reshape(-1, 1))])
        mean, var = moments.mean[0].to(x.dtype), moments.var[0].to(x.dtype)
    return (x - mean) / (var.sqrt() + 1e-8)
