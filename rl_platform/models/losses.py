"""PPO's losses (Schulman et al. 2017, arXiv:1707.06347) with their gradients written out.

The tests hold the gradients against autograd.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_platform.models.distributions import LOG_SQRT_2PI, Categorical, Gaussian, categorical_log_prob

SOFT_BOUND = 1.1


def compiled(function: Callable[..., Any], device: torch.device, rows_vary: bool) -> Callable[..., Any]:
    """`function` under torch.compile; as it is, with a warning, where that lacks its compiler."""
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        warnings.warn("agent.compile=true needs a C++ compiler (g++): running without it", stacklevel=2)
        return function
    return torch.compile(function, dynamic=rows_vary)


class PolicyLoss(NamedTuple):
    """Means over a minibatch, and the gradients of the weighted sum."""

    surrogate: Tensor
    entropy: Tensor
    bounds: Tensor
    kl: Tensor
    clip_fraction: Tensor
    grads: tuple[Tensor, ...]  # (n, action_dim) by μ and by log σ; or (n, choices) by the logits


class ClippedGain(NamedTuple):
    """The surrogate's parts (eq. 7), (n,) each."""

    ratio: Tensor
    clipped_ratio: Tensor
    gain: Tensor
    clipped_gain: Tensor
    grad_log_prob: Tensor  # (n, 1), of the mean


def clipped_gain(log_prob: Tensor, batch: dict[str, Tensor], clip_coef: float) -> ClippedGain:
    """ρA and clip(ρ, 1-ε, 1+ε)A with ρ = π(a|s) / π_old(a|s); overwrites `log_prob`.

    ∂L/∂log π = -ρA where the minimum of the two is not the clipped one, else 0
    """
    ratio = log_prob.sub_(batch["log_prob"]).exp_()
    clipped_ratio = ratio.clamp(1.0 - clip_coef, 1.0 + clip_coef)
    gain, clipped = ratio * batch["advantage"], clipped_ratio * batch["advantage"]
    grad_log_prob = (gain * (gain <= clipped)).mul_(-1.0 / len(ratio)).unsqueeze(-1)
    return ClippedGain(ratio, clipped_ratio, gain, clipped, grad_log_prob)


def gaussian_surrogate(
    mean: Tensor,
    log_std: Tensor,
    batch: dict[str, Tensor],
    clip_coef: float,
    ent_coef: float,
    bounds_coef: float,
) -> PolicyLoss:
    """The clipped surrogate (eq. 7), the entropy bonus and the bounds loss of N(μ, σ²).

    L = -min(ρA, clip(ρ, 1-ε, 1+ε)A) - c_H H + c_b Σ_d max(0, |μ_d| - 1.1)²
    ∂log π/∂μ = (a - μ)/σ²,  ∂log π/∂log σ = (a - μ)²/σ² - 1,  ∂H/∂log σ = 1

    Args:
        mean: of the present policy (n, action_dim).
        log_std: of the present policy, (n, action_dim) or (action_dim,).
        batch: with the columns `action` and `mean` (n, action_dim), `log_prob` and `advantage` (n,), and
            `log_std` of the policy that acted, shaped as that of the present one.
        clip_coef: ε.
        ent_coef: c_H.
        bounds_coef: c_b; at 0 the bounds loss is not computed and reads 0.
    """
    n, action_dim = mean.shape
    old_log_std = batch["log_std"]
    inverse_std = torch.exp(-log_std)
    z = (batch["action"] - mean).mul_(inverse_std)
    z_squared = z.square()
    total_log_std = log_std.sum(-1)
    log_prob = z_squared.sum(-1).mul_(-0.5).sub_(total_log_std + LOG_SQRT_2PI * action_dim)
    clip = clipped_gain(log_prob, batch, clip_coef)
    # KL(old ‖ new) = Σ_d log(σ/σ₀) + (σ₀² + (μ₀ - μ)²) / 2σ² - ½
    spread = (batch["mean"] - mean).square_().add_((2.0 * old_log_std).exp()).mul_(inverse_std.square())
    grad_mean = z.mul_(inverse_std).mul_(clip.grad_log_prob)
    bounds = mean.new_zeros(())
    if bounds_coef:
        excess = (mean.abs() - SOFT_BOUND).clamp_min_(0.0)
        bounds = excess.square().sum(-1).mean()
        grad_mean.addcmul_(excess, mean.sign(), value=2.0 * bounds_coef / n)
    return PolicyLoss(
        surrogate=-torch.minimum(clip.gain, clip.clipped_gain).mean(),
        entropy=total_log_std.mean() + (LOG_SQRT_2PI + 0.5) * action_dim,
        bounds=bounds,
        kl=(0.5 * spread.sum(-1) + (total_log_std - old_log_std.sum(-1) - 0.5 * action_dim)).mean(),
        clip_fraction=(clip.clipped_ratio != clip.ratio).float().mean(),
        grads=(grad_mean, z_squared.sub_(1.0).mul_(clip.grad_log_prob).sub_(ent_coef / n)),
    )


def categorical_surrogate(
    log_p: Tensor, batch: dict[str, Tensor], clip_coef: float, ent_coef: float, bounds_coef: float
) -> PolicyLoss:
    """The clipped surrogate (eq. 7) and the entropy bonus of p = softmax(z).

    L = -min(ρA, clip(ρ, 1-ε, 1+ε)A) - c_H H,  H = -Σ_k p_k log p_k
    ∂log p_a/∂z_k = [a = k] - p_k,  ∂H/∂z_k = -p_k (log p_k + H)

    Args:
        log_p: of the present policy (n, choices).
        batch: with the columns `action` (n, 1), `log_p` (n, choices), `log_prob` and `advantage` (n,).
        clip_coef: ε.
        ent_coef: c_H.
        bounds_coef: not used: a choice has no bounds.
    """
    action, p = batch["action"].long(), log_p.exp()
    clip = clipped_gain(categorical_log_prob(action, log_p), batch, clip_coef)
    entropy = -(p * log_p).sum(-1, keepdim=True)
    grad = p * ((log_p + entropy) * (ent_coef / len(p)) - clip.grad_log_prob)
    grad.scatter_add_(-1, action, clip.grad_log_prob)
    # KL(old ‖ new) = Σ_k p₀ (log p₀ - log p)
    kl = (batch["log_p"].exp() * (batch["log_p"] - log_p)).sum(-1)
    return PolicyLoss(
        surrogate=-torch.minimum(clip.gain, clip.clipped_gain).mean(),
        entropy=entropy.mean(),
        bounds=p.new_zeros(()),
        kl=kl.mean(),
        clip_fraction=(clip.clipped_ratio != clip.ratio).float().mean(),
        grads=(grad,),
    )


SURROGATES: dict[type, Callable[..., PolicyLoss]] = {
    Gaussian: gaussian_surrogate,
    Categorical: categorical_surrogate,
}


def value_loss(
    value: Tensor, old_value: Tensor, returns: Tensor, clip_coef: float | None
) -> tuple[Tensor, Tensor]:
    """Mean of ½ (V - R)², and its gradient (n,) by V (n,).

    Clipped by ε = `clip_coef`: the larger of that and of ½ (V_old + clip(V - V_old, -ε, ε) - R)².
    """
    n = len(value)
    error = value - returns
    if clip_coef is None:
        return 0.5 * error.square().mean(), error / n
    near = old_value + (value - old_value).clamp(-clip_coef, clip_coef)
    near_error = near - returns
    squared, near_squared = error.square(), near_error.square()
    # where the larger term is the one with V clipped, it does not depend on V
    inside = (value - old_value).abs() <= clip_coef
    active = (squared >= near_squared) | inside
    return 0.5 * torch.maximum(squared, near_squared).mean(), (error * active) / n
