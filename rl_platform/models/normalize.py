"""Normalisation by running moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rl_platform.distributed import pool_moments
from rl_platform.tensor_math import Moments, batch_moments, merge_moments

OBSERVATION_CLIP = 10.0


class Normalizer(nn.Module):
    """Shifts and scales to zero mean and unit variance; the identity until the first update.

    Moments are kept in float64 over everything seen so far, pooled over the ranks, and belong to the
    model's state: an exported policy carries them.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, size: int, clip: float | None = None, epsilon: float = 1e-8) -> None:
        """Build the identity.

        Args:
            size: width d of the data (n, d).
            clip: bound on the magnitude of a normalised value; a column that hardly varied so far
                would otherwise explode when it starts to.
            epsilon: added to the variance.
        """
        super().__init__()
        self.clip = clip
        self.epsilon = epsilon
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(size, dtype=torch.float64))
        # what forward uses: kept in the data's own type, so that acting casts nothing
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def update(self, x: Tensor) -> None:
        """Add the rows of `x` (n, size) of every rank."""
        self.merge(*pool_moments([batch_moments(x)]))

    def merge(self, moments: Moments) -> None:
        """Add samples given by their moments, those of all ranks together."""
        merged = merge_moments(Moments(self.count, self.mean, self.m2), moments)
        self.count.copy_(merged.n)
        self.mean.copy_(merged.mean)
        self.m2.copy_(merged.m2)
        self.shift.copy_(merged.mean)
        self.scale.copy_((merged.var + self.epsilon).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std, clipped."""
        y = (x - self.shift) / self.scale
        return y if self.clip is None else y.clamp_(-self.clip, self.clip)

    def inverse(self, y: Tensor) -> Tensor:
        """The data that `forward` maps to `y`, clipping apart."""
        return y * self.scale + self.shift


def observation_normalizers(dims: dict[str, int], wanted: bool) -> nn.ModuleDict:
    """One for each group of observations, of so many columns; what changes nothing where none is wanted."""
    return nn.ModuleDict(
        {g: Normalizer(size, OBSERVATION_CLIP) if wanted else nn.Identity() for g, size in dims.items()}
    )


class ReturnScale(nn.Module):
    """Divides rewards by the running deviation of the discounted return, so that returns are of order 1.

    G_t = γ (1 - done_{t-1}) G_{t-1} + r_t for each environment; the deviation grows more exact with
    every step, as in Gymnasium's NormalizeReward.
    """

    discounted: Tensor
    done: Tensor

    def __init__(self, num_envs: int, gamma: float, device: torch.device) -> None:
        """Begin with no return."""
        super().__init__()
        self.gamma = gamma
        self.moments = Normalizer(1).to(device)
        self.register_buffer("discounted", torch.zeros(num_envs, device=device))
        self.register_buffer("done", torch.zeros(num_envs, dtype=torch.bool, device=device))

    def update_and_scale_(self, reward: Tensor, done: Tensor) -> None:
        """Scale the rewards of a rollout (steps, num_envs) in place."""
        steps = []
        for t in range(reward.shape[0]):
            self.discounted.mul_(self.gamma * ~self.done).add_(reward[t])
            self.done.copy_(done[t])
            steps.append(batch_moments(self.discounted.unsqueeze(-1)))
        for t, moments in enumerate(pool_moments(steps)):
            self.moments.merge(moments)
            reward[t] /= self.moments.scale
