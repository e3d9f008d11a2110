"""The diagonal Gaussian as pure functions of its mean and standard deviation (n, d).

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


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density (n,): -Σ_d [ (x - μ)² / 2σ² + log σ + ½ log 2π ]."""
    z = (x - mean) / std
    return -(0.5 * z.square() + std.log()).sum(-1) - LOG_SQRT_2PI * x.shape[-1]


def gaussian_entropy(std: Tensor) -> Tensor:
    """Differential entropy (n,): Σ_d [ log σ + ½ log 2πe ]."""
    return std.log().sum(-1) + (LOG_SQRT_2PI + 0.5) * std.shape[-1]


def gaussian_kl(old_mean: Tensor, old_std: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """KL(old ‖ new) (n,): Σ_d [ log(σ/σ₀) + (σ₀² + (μ₀ - μ)²) / 2σ² - ½ ]."""
    spread = (old_std.square() + (old_mean - mean).square()) / (2.0 * std.square())
    return (torch.log(std / old_std) + spread - 0.5).sum(-1)
