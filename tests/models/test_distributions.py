from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal

from rl_platform.models.distributions import Categorical, Gaussian, gaussian_log_prob


@pytest.mark.parametrize("std_shape", [(5,), (7, 5)])
def test_log_prob_is_that_of_torch(std_shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    log_std = torch.randn(std_shape, generator=generator, dtype=torch.float64)
    expected = Normal(mean, log_std.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_std), expected)


def test_samples_have_the_mean_and_deviation_asked_for() -> None:
    mean = torch.tensor([1.0, -2.0]).expand(200_000, 2)
    std = torch.tensor([0.5, 3.0])
    policy = Gaussian(2, "log", 1.0, 0.1, 5.0)
    assert policy.parameter is not None
    policy.parameter.data.copy_(std.log())
    with torch.no_grad():
        sample = policy.sample(mean, policy.noise(mean, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(sample.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(sample.std(0), std, atol=0.03, rtol=0)


def test_categorical_log_prob_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    action = torch.randint(0, 4, (50, 1), generator=generator)
    columns, shared = Categorical(4).acted(logits, action.double())
    expected = TorchCategorical(logits=logits)
    torch.testing.assert_close(columns["log_prob"], expected.log_prob(action.squeeze(1)))
    torch.testing.assert_close(columns["log_p"].exp(), expected.probs)
    assert shared == {}


def sampled(head: Categorical, logits: torch.Tensor, seed: int) -> torch.Tensor:
    return head.sample(logits, head.noise(logits, torch.Generator().manual_seed(seed)))


def test_choices_come_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([1.0, -2.0, 0.0, 3.0]).expand(200_000, 4)
    sample = sampled(Categorical(4), logits, 0)
    assert sample.shape == (200_000, 1)
    assert sample.dtype == torch.float32
    shares = torch.bincount(sample.long().flatten(), minlength=4) / len(sample)
    torch.testing.assert_close(shares, torch.softmax(logits[0], 0), atol=0.005, rtol=0)


def test_the_mode_is_the_likeliest_choice_and_a_seed_repeats_samples() -> None:
    logits = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    head = Categorical(6)
    assert torch.equal(head.mode(logits).squeeze(1), logits.argmax(1).float())
    first, second = (sampled(head, logits, 7) for _ in range(2))
    assert torch.equal(first, second)
