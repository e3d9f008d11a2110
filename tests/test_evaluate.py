from __future__ import annotations

import random

import pytest
import torch

from rl_platform.evaluate import evaluate, quotas, report, wilson_interval
from tests.fakes import PointMass


def towards_origin(obs: dict[str, torch.Tensor]) -> torch.Tensor:
    return -5.0 * obs["policy"][:, :2]


def away(obs: dict[str, torch.Tensor]) -> torch.Tensor:
    return 100.0 * obs["policy"][:, :2]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Brown, Cai & DasGupta 2001, and R: binom::binom.confint(method = "wilson")
    [(0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (5, 10, 0.2365931, 0.7634069)],
)
def test_wilson_interval_agrees_with_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("episodes", "num_envs"), [(512, 512), (10, 4), (3, 8), (7, 7), (1, 1)])
def test_quotas_share_every_episode_out_evenly(episodes: int, num_envs: int) -> None:
    shares = quotas(episodes, num_envs)
    assert sum(shares) == episodes
    assert max(shares) - min(shares) <= 1


def test_a_policy_that_reaches_the_goal_succeeds_always() -> None:
    result = evaluate(PointMass(8), towards_origin, episodes=20, seed=1)
    assert result["success_rate"] == 1.0
    assert result["success_rate_ci95"][0] > 0.8
    assert result["success_rate_2cm"] == 1.0
    assert result["episodes"] == 20
    assert result["episode_length_mean"] == 10.0
    assert "100.0%" in report(result)


def test_the_result_is_the_same_every_time() -> None:
    first = evaluate(PointMass(4), towards_origin, episodes=10, seed=3)
    env = PointMass(4, seed=99)
    env.reset()
    env.step(torch.ones(4, 2))
    second = evaluate(env, towards_origin, episodes=10, seed=3)
    for result in (first, second):
        result.pop("wall_time_s")
    assert first == second


class TwoKinds(PointMass):
    """Even environments fail after 1 step, odd ones succeed after 10."""

    def step(self, action: torch.Tensor) -> tuple:
        self.position[:] = 0.0
        obs, reward, _, _, info = super().step(torch.zeros_like(action))
        even = torch.arange(self.num_envs) % 2 == 0
        terminated = even.clone()
        truncated = ~even & (self.age % 10 == 0)
        info["success"] = ~even
        return obs, reward, terminated, truncated, info


def test_short_episodes_are_not_over_represented() -> None:
    # By the first 40 episodes to end, 10 of 11 would be failures.
    result = evaluate(TwoKinds(4), towards_origin, episodes=40, seed=0)
    assert result["success_rate"] == 0.5
    assert result["episode_length_mean"] == pytest.approx(5.5)


def test_an_evaluation_leaves_the_random_streams_alone() -> None:
    def noisy(obs: dict[str, torch.Tensor]) -> torch.Tensor:
        random.random()
        return torch.randn(len(obs["policy"]), 2)

    torch.manual_seed(0)
    random.seed(0)
    expected = torch.rand(3), random.random()
    torch.manual_seed(0)
    random.seed(0)
    evaluate(PointMass(4), noisy, episodes=4, seed=0)
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def test_it_can_be_given_up() -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(PointMass(4), away, episodes=100, seed=0, check_stop=stop)
    assert len(calls) == 3
