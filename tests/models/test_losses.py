from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from rl_platform.models.losses import categorical_surrogate, gaussian_surrogate, value_loss

N, ACTIONS = 64, 3


def case(state_dependent: bool, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean, log σ and a minibatch in which many ratios are clipped."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (N, ACTIONS) if state_dependent else (ACTIONS,)
    old_mean, old_log_std = noise(N, ACTIONS), 0.2 * noise(*shape)
    action = old_mean + old_log_std.exp() * noise(N, ACTIONS)
    batch = {
        "action": action,
        "mean": old_mean,
        "log_std": old_log_std,
        "log_prob": Normal(old_mean, old_log_std.exp()).log_prob(action).sum(-1),
        "advantage": noise(N),
    }
    mean = (old_mean + 0.2 * noise(N, ACTIONS)).requires_grad_()
    log_std = (old_log_std + 0.1 * noise(*shape)).requires_grad_()
    return mean, log_std, batch


@pytest.mark.parametrize("state_dependent", [False, True])
@pytest.mark.parametrize("bounds_coef", [0.0, 0.3])
def test_policy_loss_and_gradients_agree_with_autograd(state_dependent: bool, bounds_coef: float) -> None:
    mean, log_std, batch = case(state_dependent)
    policy, old = Normal(mean, log_std.exp()), Normal(batch["mean"], batch["log_std"].exp())
    ratio = (policy.log_prob(batch["action"]).sum(-1) - batch["log_prob"]).exp()
    gain = torch.minimum(ratio * batch["advantage"], ratio.clamp(0.8, 1.2) * batch["advantage"])
    entropy = policy.entropy().expand(N, ACTIONS).sum(-1).mean()
    bounds = (mean.abs() - 1.1).clamp_min(0).square().sum(-1).mean()
    loss = -gain.mean() - 0.05 * entropy + bounds_coef * bounds
    grad_mean, grad_log_std = torch.autograd.grad(loss, (mean, log_std))

    with torch.no_grad():
        ours = gaussian_surrogate(mean, log_std, batch, 0.2, 0.05, bounds_coef)
    torch.testing.assert_close(ours.surrogate, -gain.mean())
    torch.testing.assert_close(ours.entropy, entropy)
    torch.testing.assert_close(ours.kl, kl_divergence(old, policy).sum(-1).mean())
    assert ours.clip_fraction.item() == pytest.approx(((ratio - 1).abs() > 0.2).double().mean().item())
    assert 0.1 < ours.clip_fraction < 0.9
    if bounds_coef:
        torch.testing.assert_close(ours.bounds, bounds)
    our_grad_mean, our_grad_log_std = ours.grads
    torch.testing.assert_close(our_grad_mean, grad_mean, rtol=1e-9, atol=1e-12)
    rows = our_grad_log_std if state_dependent else our_grad_log_std.sum(0)
    torch.testing.assert_close(rows, grad_log_std, rtol=1e-9, atol=1e-12)


def one_sample(shift: float, advantage: float) -> tuple[float, float]:
    """Surrogate and gradient by μ, after μ moved by `shift` towards an action at one old σ."""
    zero = torch.zeros(1, dtype=torch.float64)
    batch = {
        "action": torch.ones(1, 1, dtype=torch.float64),
        "mean": zero.unsqueeze(-1),
        "log_std": zero,
        "log_prob": Normal(0.0, 1.0).log_prob(torch.ones(1, dtype=torch.float64)),
        "advantage": torch.full((1,), advantage, dtype=torch.float64),
    }
    loss = gaussian_surrogate((zero + shift).unsqueeze(-1), zero, batch, 0.2, 0.0, 0.0)
    return loss.surrogate.item(), loss.grads[0].item()


def test_a_gain_beyond_the_clip_earns_nothing_more() -> None:
    # ρ = exp(½ - ½ (1 - shift)²)
    assert one_sample(0.5, advantage=2.0) == (pytest.approx(-2.0 * 1.2), 0.0)
    assert one_sample(-0.5, advantage=-2.0) == (pytest.approx(2.0 * 0.8), 0.0)


def test_a_loss_beyond_the_clip_still_pulls_back() -> None:
    ratio = torch.tensor(0.5 - 0.5 * 1.5**2, dtype=torch.float64).exp().item()
    surrogate, gradient = one_sample(-0.5, advantage=2.0)
    assert surrogate == pytest.approx(-2.0 * ratio)
    assert gradient == pytest.approx(-2.0 * ratio * 1.5)


def test_bounds_loss_by_hand() -> None:
    mean, log_std, batch = case(False)
    mean = torch.zeros(N, ACTIONS, dtype=torch.float64)
    mean[0] = torch.tensor([1.1, -1.6, 2.1])
    loss = gaussian_surrogate(mean, log_std.detach(), batch, 0.2, 0.0, 1.0)
    assert loss.bounds.item() == pytest.approx((0.5**2 + 1.0**2) / N)


def choices(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and a minibatch of choices among five, in which many ratios are clipped."""
    generator = torch.Generator().manual_seed(seed)
    old, step = torch.randn(2, N, 5, generator=generator, dtype=torch.float64)
    old_log_p = torch.log_softmax(old, -1)
    action = torch.randint(0, 5, (N, 1), generator=generator)
    batch = {
        "action": action.double(),
        "log_p": old_log_p,
        "log_prob": old_log_p.gather(1, action).squeeze(1),
        "advantage": torch.randn(N, generator=generator, dtype=torch.float64),
    }
    return (old + 0.3 * step).requires_grad_(), batch


@pytest.mark.parametrize("ent_coef", [0.0, 0.05])
def test_categorical_loss_and_gradient_agree_with_autograd(ent_coef: float) -> None:
    logits, batch = choices()
    policy, old = Categorical(logits=logits), Categorical(logits=batch["log_p"])
    ratio = (policy.log_prob(batch["action"].squeeze(1)) - batch["log_prob"]).exp()
    gain = torch.minimum(ratio * batch["advantage"], ratio.clamp(0.8, 1.2) * batch["advantage"])
    loss = -gain.mean() - ent_coef * policy.entropy().mean()
    (gradient,) = torch.autograd.grad(loss, logits)

    with torch.no_grad():
        ours = categorical_surrogate(torch.log_softmax(logits, -1), batch, 0.2, ent_coef, 0.0)
    torch.testing.assert_close(ours.surrogate, -gain.mean())
    torch.testing.assert_close(ours.entropy, policy.entropy().mean())
    torch.testing.assert_close(ours.kl, kl_divergence(old, policy).mean())
    assert ours.clip_fraction.item() == pytest.approx(((ratio - 1).abs() > 0.2).double().mean().item())
    assert 0.1 < ours.clip_fraction < 0.9
    torch.testing.assert_close(ours.grads[0], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip_coef", [None, 0.2])
def test_value_loss_and_gradient_agree_with_autograd(clip_coef: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    old, step, returns = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    value = (old + 0.3 * step).requires_grad_()
    squared = (value - returns).square()
    if clip_coef is not None:
        near = old + (value - old).clamp(-clip_coef, clip_coef)
        squared = torch.maximum(squared, (near - returns).square())
    loss = 0.5 * squared.mean()
    (gradient,) = torch.autograd.grad(loss, value)
    ours, our_gradient = value_loss(value.detach(), old, returns, clip_coef)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-9, atol=1e-12)


def test_value_clipping_by_hand() -> None:
    old, returns = torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])
    value = torch.tensor([0.1, 0.5, 0.5])
    loss, gradient = value_loss(value, old, returns, 0.2)
    # within ε: (0.9)²; towards R beyond ε: the clipped (0.8)², no gradient; away from R: (1.5)²
    assert loss.item() == pytest.approx(0.5 * (0.81 + 0.64 + 2.25) / 3)
    torch.testing.assert_close(gradient, torch.tensor([-0.9, 0.0, 1.5]) / 3)
