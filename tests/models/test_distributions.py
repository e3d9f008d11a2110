from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from rl_platform.models.distributions import gaussian_log_prob, gaussian_sample


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
    sample = gaussian_sample(mean, std, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(sample.std(0), std, atol=0.03, rtol=0)
