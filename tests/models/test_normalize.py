from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import NormalizeReward

from rl_platform.models.normalize import Normalizer, ReturnScale


def test_normaliser_agrees_with_numpy_over_all_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [3.0 + 2.0 * torch.randn(n, 3, generator=generator) for n in (1, 10, 500)]
    normalizer = Normalizer(3)
    for batch in batches:
        normalizer.update(batch)
    seen = torch.cat(batches).double().numpy()
    x = torch.randn(4, 3, generator=generator)
    expected = (x.numpy() - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8)
    np.testing.assert_allclose(normalizer(x).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(normalizer.inverse(normalizer(x)).numpy(), x.numpy(), rtol=1e-5)


def test_normaliser_is_the_identity_before_data() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(Normalizer(3)(x), x)


def test_normaliser_bounds_what_hardly_varied() -> None:
    normalizer = Normalizer(2, clip=10.0)
    normalizer.update(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert normalizer(torch.tensor([[1.5, 1.0]])).tolist() == [[10.0, 0.0]]


def test_moments_do_not_cancel_far_from_zero() -> None:
    x = 1e4 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    normalizer = Normalizer(1)
    for part in x.split(10):
        normalizer.update(part)
    np.testing.assert_allclose(normalizer.scale.numpy(), x.double().numpy().std(0), rtol=1e-3)


class Scripted(gymnasium.Env[np.ndarray, np.ndarray]):
    """One long episode with given rewards."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, rewards: np.ndarray) -> None:
        self.rewards = iter(rewards)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), float(next(self.rewards)), False, False, {}


def test_return_scale_agrees_with_gymnasium() -> None:
    rewards = np.random.default_rng(0).normal(1.0, 2.0, 400)
    env = NormalizeReward(Scripted(rewards), gamma=0.9)
    env.reset()
    theirs = [float(env.step(np.zeros(1))[1]) for _ in rewards]
    ours = torch.from_numpy(rewards).float().unsqueeze(-1)
    scale = ReturnScale(1, 0.9, torch.device("cpu"))
    never = torch.zeros(100, 1, dtype=torch.bool)
    for rollout in ours.split(100):
        scale.update_and_scale_(rollout, never)
    # Gymnasium begins with a phantom sample of weight 1e-4, which fades
    np.testing.assert_allclose(ours[20:, 0].numpy(), theirs[20:], rtol=1e-4)


def test_return_scale_starts_a_new_return_after_an_episode_ends() -> None:
    scale = ReturnScale(2, 0.5, torch.device("cpu"))
    done = torch.tensor([[False, True], [False, False]])
    scale.update_and_scale_(torch.ones(2, 2), done)
    assert scale.discounted.tolist() == [1.5, 1.0]
    # and remembers across rollouts that the last step ended one
    scale.update_and_scale_(torch.ones(1, 2), torch.tensor([[True, False]]))
    scale.update_and_scale_(torch.ones(1, 2), torch.tensor([[False, False]]))
    assert scale.discounted.tolist() == [1.0, 1.75]
