"""What `agent=rl_games` does with RL-Games' own agent."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agents.test_libraries import Privileged, built
from tests.fakes import PointMass

Outcome = tuple[dict[str, Tensor], Tensor, Tensor, Tensor]


def environment(privileged: bool, choices: int | None, num_envs: int = 6) -> PointMass:
    env = (Privileged if privileged else PointMass)(num_envs)
    if choices is not None:
        env.num_choices, env.action_dim = choices, 1
    return env


def outcomes(env: PointMass, steps: int) -> list[Outcome]:
    """Observations, rewards and ends that were drawn beforehand, whatever the actions."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    n = env.num_envs
    return [
        ({g: draw(n, d) for g, d in env.observation_dims.items()}, draw(n), draw(n) > 0.7, draw(n) > 0.7)
        for _ in range(steps)
    ]


def play(algo: Any, seen: list[Outcome]) -> dict[str, Tensor]:
    """Act, and be told each outcome; return the last observation."""
    obs = seen[0][0]
    for after, reward, terminated, truncated in seen[1:]:
        algo.act(obs)
        algo.observe(reward, terminated, truncated, after)
        obs = after
    return obs


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("choices", [None, 3])
@pytest.mark.parametrize("privileged", [True, False])
def test_the_rollout_is_the_one_that_rl_games_collects(
    privileged: bool, choices: int | None, bootstrap: bool
) -> None:
    """Its own loop, in an environment that repeats what happened, finds the same rows and returns."""
    env = environment(privileged, choices)
    algo = built("rl_games", env, bootstrap_truncated=bootstrap, reward_scale=2.0, normalize_value=True)
    agent, seen = algo._agent, outcomes(env, algo.rollout_steps + 1)
    torch.manual_seed(1)
    agent.obs = algo._seen(play(algo, seen))
    ours = agent.play_steps()

    replay = iter(seen[1:])

    def step(action: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]]:
        obs, reward, terminated, truncated = next(replay)
        return algo._seen(obs), reward, terminated | truncated, {"time_outs": truncated & ~terminated}

    torch.manual_seed(1)
    agent.vec_env, agent.is_tensor_obses = SimpleNamespace(step=step), True
    agent.obs, agent.dones = algo._seen(seen[0][0]), torch.ones(env.num_envs, dtype=torch.uint8)
    with torch.no_grad():
        theirs = super(type(agent), agent).play_steps()
    assert ours.keys() == theirs.keys()
    for name, rows in theirs.items():
        if isinstance(rows, Tensor):
            assert torch.allclose(ours[name], rows, atol=1e-6), name


@pytest.mark.parametrize("privileged", [True, False])
def test_the_critic_learns_normalised_returns(privileged: bool) -> None:
    """V is in units of the reward all the same, and what it is normalised by is part of the state."""
    env = environment(privileged, None)
    algo = built("rl_games", env, normalize_value=True, update_epochs=8)
    seen = outcomes(env, algo.rollout_steps + 1)
    never = torch.zeros(6, dtype=torch.bool)
    obs = play(algo, [(obs, reward + 100.0, never, never) for obs, reward, _, _ in seen])
    losses = algo.update(obs)
    assert losses["Loss/value"] < 10.0  # of returns of some hundreds
    assert float(algo._agent.get_values(algo._seen(obs)).mean()) > 50.0
    model = "central_value" if privileged else "actor_critic"
    assert float(algo.state_dict()["model"][f"{model}.value_mean_std.running_mean"]) > 50.0


@pytest.mark.parametrize(
    ("choices", "target_kl", "rate"),
    [(None, 1e-9, 2e-4), (None, 1e3, 1.2e-2), (3, 1e-9, 1e-2 / 1.5**3), (3, 1e3, 1.2e-2)],
)
def test_the_adaptive_rate_keeps_to_our_bounds(choices: int | None, target_kl: float, rate: float) -> None:
    """It is decided in each of 3 x 4 minibatches with continuous actions, and once a pass with choices."""
    env = environment(False, choices)
    bounds = {"min_learning_rate": 2e-4, "max_learning_rate": 1.2e-2}
    algo = built("rl_games", env, lr_schedule="adaptive", target_kl=target_kl, **bounds)
    losses = algo.update(play(algo, outcomes(env, algo.rollout_steps + 1)))
    assert losses["Loss/learning_rate"] == pytest.approx(rate)
    assert algo._agent.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_privileged_critic_follows_the_linear_schedule() -> None:
    algo = built("rl_games", Privileged(), lr_schedule="linear", learning_rate=1e-2)
    algo.set_progress(0.75)
    env = environment(True, None, 4)
    algo.update(play(algo, outcomes(env, algo.rollout_steps + 1)))
    for optimizer in (algo._agent.optimizer, algo._central.optimizer):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-3)


def test_an_update_tells_its_losses_and_leaves_the_moments_alone() -> None:
    for privileged in (True, False):
        for choices in (None, 3):
            env = environment(privileged, choices, num_envs=5)
            algo = built("rl_games", env, rollout_steps=7, num_minibatches=5)
            losses = algo.update(play(algo, outcomes(env, algo.rollout_steps + 1)))
            told = {"surrogate", "value", "entropy", "kl", "learning_rate"}
            assert {f"Loss/{name}" for name in told} <= losses.keys()
            assert ("Loss/bounds" in losses) is (choices is None)
            assert all(math.isfinite(value) for value in losses.values()), losses
            assert losses["Loss/value"] > 0.0
            # what is evaluated now does not move the moments
            assert not any(module.training for module in algo.model.modules())


@pytest.mark.parametrize("choices", [None, 3])
def test_the_policys_layers_do_not_learn_a_privileged_value(choices: int | None) -> None:
    env = environment(True, choices)
    algo = built("rl_games", env)
    algo.update(play(algo, outcomes(env, algo.rollout_steps + 1)))
    network = algo._agent.model.a2c_network
    assert network.actor_mlp[0].weight.grad is not None
    assert network.value.weight.grad is None


def test_biases_begin_at_zero() -> None:
    """Those of the critic's layers too, which are not RL-Games' where its sizes are its own."""
    network = built("rl_games", PointMass())._agent.model.a2c_network
    biases = {name: bias for name, bias in network.named_parameters() if name.endswith("bias")}
    assert {name.partition(".")[0] for name in biases} == {"actor_mlp", "mu", "critic_mlp", "value"}
    assert not any(bool(bias.any()) for bias in biases.values())
