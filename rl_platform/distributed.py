"""What several ranks must agree on. In a single process every function is a no-op.

Every rank calls these functions in the same order; the results are identical on all of them.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from rl_platform.tensor_math import Moments, merge_moments


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def mean_reduce_(x: Tensor) -> Tensor:
    """Replace `x` by its mean over the ranks, in place, and return it."""
    ranks = world_size()
    if ranks > 1:
        dist.all_reduce(x)
        x /= ranks
    return x


def pool_moments(moments: Moments) -> Moments:
    """Moments of all the ranks' samples together, merged in the order of the ranks."""
    ranks = world_size()
    if ranks == 1:
        return moments
    packed = torch.cat((moments.n.reshape(1), moments.mean.reshape(-1), moments.m2.reshape(-1)))
    parts = [torch.empty_like(packed) for _ in range(ranks)]
    dist.all_gather(parts, packed)
    shape, size = moments.mean.shape, moments.mean.numel()
    pooled: Moments | None = None
    for part in parts:
        one = Moments(part[0], part[1 : 1 + size].view(shape), part[1 + size :].view(shape))
        pooled = one if pooled is None else merge_moments(pooled, one)
    assert pooled is not None
    return pooled


def standardize(x: Tensor) -> Tensor:
    """Shift and scale `x` to zero mean and unit deviation over all samples of all ranks."""
    mean = mean_reduce_(x.mean())
    var = mean_reduce_((x - mean).square().mean())
    return (x - mean) / (var.sqrt() + 1e-8)
