"""The diagonal Gaussian as pure functions of its mean (n, d) and deviation, (n, d) or (d,).

torch.distributions gives the same numbers (the tests compare them), at several times the cost: its
objects validate, broadcast and recompute.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def gaussian_sample(mean: Tensor, std: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one sample a row: μ + σ ε, ε ~ N(0, 1)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return torch.addcmul(mean, std, noise)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density (n,): -Σ_d [ (x - μ)² / 2σ² + log σ + ½ log 2π ]."""
    z = (x - mean) * torch.exp(-log_std)
    return -0.5 * z.square().sum(-1) - log_std.sum(-1) - LOG_SQRT_2PI * x.shape[-1]
