"""Properties that every environment in conf/env has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_platform import registry
from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.env import Env
from rl_platform.errors import NonFiniteError

CONF = Path(__file__).parents[2] / "conf" / "env"
# Gymnasium's own environments are not ours: tests/envs/test_external.py
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "gymnasium")
# Observations that a task has by its definition and that do not change, or only at a joint's limit.
CONSTANT = {"pusher": {"goal"}, "inverted_double_pendulum": {"qfrc_constraint"}}
MAX_STEPS = 100  # of an episode here, so that whole ones are soon over
every_env = pytest.mark.parametrize("name", NAMES)


def make(
    name: str, num_envs: int = 6, seed: int = 3, *overrides: str, num_threads: int = 1, env_offset: int = 0
) -> Env:
    """Build an environment as `env=<name>` has it."""
    return _build(
        typed("env", compose([f"env={name}", *overrides]).env), num_envs, seed, num_threads, env_offset
    )


def short(name: str, num_envs: int = 6, seed: int = 3, num_threads: int = 1, env_offset: int = 0) -> Env:
    """Build an environment whose episodes are over after `MAX_STEPS` at the latest."""
    config = typed("env", compose([f"env={name}"]).env)
    config.episode_length_s = min(config.episode_length_s, MAX_STEPS * config.timestep * config.substeps)
    return _build(config, num_envs, seed, num_threads, env_offset)


def _build(config: Any, num_envs: int, seed: int, num_threads: int, env_offset: int) -> Env:
    task = registry.load("env", config.name).TASK
    return make_env(
        config,
        task,
        num_envs=num_envs,
        seed=seed,
        device="cpu",
        num_threads=num_threads,
        env_offset=env_offset,
    )


def random_actions(env: Env, steps: int, seed: int = 0) -> torch.Tensor:
    """`(steps, num_envs, action_dim)` within the bounds."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(steps, env.num_envs, env.action_dim, generator=generator)
    return env.action_low + (env.action_high - env.action_low) * unit


def rollout(env: Env, actions: torch.Tensor) -> torch.Tensor:
    """Every observation of every step, `(steps, num_envs, d)`."""
    return torch.stack([torch.cat(list(env.step(action)[0].values()), 1) for action in actions])


@every_env
def test_whole_episodes_are_finite_and_as_declared(name: str) -> None:
    env = short(name)
    obs = env.reset()
    assert set(obs) == set(env.observation_dims)
    for action in random_actions(env, env.max_episode_steps + 3):
        obs, reward, terminated, truncated, info = env.step(action)
        for group, dim in env.observation_dims.items():
            assert obs[group].shape == (env.num_envs, dim)
            assert obs[group].dtype == torch.float32
            assert torch.isfinite(obs[group]).all()
        assert reward.shape == terminated.shape == truncated.shape == (env.num_envs,)
        assert not (terminated & truncated).any()
        torch.testing.assert_close(reward, sum(info["rewards"].values()))


def test_metrics_are_of_the_step_but_cost_nothing_unless_asked_for() -> None:
    env = short("lift")
    asked: list[str] = []

    def noted(name: str) -> Any:
        def metric(s: Any) -> torch.Tensor:
            asked.append(name)
            return functions[name](s)

        return metric

    functions = env.task.metrics
    metrics = {name: noted(name) for name in functions}
    env.task = dataclasses.replace(env.task, metrics=metrics)
    info = env.step(torch.zeros(env.num_envs, env.action_dim))[4]
    assert asked == []
    distance = env._state.goal_distance.clone()
    assert set(info["metrics"]) == set(metrics)
    assert torch.equal(info["metrics"]["position_error"], distance)
    assert torch.equal(info["metrics"]["position_error"], distance)
    assert asked == ["position_error"]
    asked.clear()
    env.episode_length[1] = env.max_episode_steps
    env.step(torch.zeros(env.num_envs, env.action_dim))
    assert asked == list(metrics), "an episode ended: they are logged"


@every_env
def test_a_seed_gives_the_same_episodes_at_any_number_of_threads(name: str) -> None:
    first, second = short(name), short(name, num_threads=2)
    actions = random_actions(first, first.max_episode_steps + 5)
    assert torch.equal(rollout(first, actions), rollout(second, actions))


@every_env
def test_episodes_do_not_depend_on_how_environments_are_spread(name: str) -> None:
    whole = short(name, num_envs=6)
    parts = [short(name, num_envs=2), short(name, num_envs=4, env_offset=2)]
    actions = random_actions(whole, whole.max_episode_steps + 5)
    split = [rollout(parts[0], actions[:, :2]), rollout(parts[1], actions[:, 2:])]
    assert torch.equal(rollout(whole, actions), torch.cat(split, 1))


@every_env
def test_resets_and_seeds_differ(name: str) -> None:
    env = short(name)
    first, again = env.reset(seed=1)["policy"], env.reset(seed=1)["policy"]
    assert torch.equal(first, again)
    for other in (env.reset()["policy"], env.reset(seed=2)["policy"]):
        assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == env.num_envs


@every_env
def test_every_observation_term_varies(name: str) -> None:
    env = short(name, num_envs=16)
    for action in random_actions(env, 20):
        env.step(action)
    state = env._state
    for group, terms in env._groups.terms.items():
        for term, (function, _, parameters) in terms.items():
            if term in CONSTANT.get(name, set()):
                continue
            values = function(state, **parameters)
            assert values.std(0).max() > 1e-5, f"{group}/{term} is the same everywhere"


@every_env
def test_a_truncated_episode_restarts_in_the_same_step(name: str) -> None:
    env = short(name, num_envs=4)
    env.episode_length[2] = env.max_episode_steps - 1
    obs, _, terminated, truncated, info = env.step(random_actions(env, 1)[0])
    assert truncated.tolist() == [False, False, True, False] or terminated[2]
    assert env.episode_length.tolist() == [1, 1, 0, 1]
    running = [0, 1, 3]
    assert torch.equal(obs["policy"][running], info["final_obs"]["policy"][running])
    assert not torch.equal(obs["policy"][2], info["final_obs"]["policy"][2])


@every_env
def test_a_saved_environment_continues_bit_for_bit(name: str) -> None:
    env = short(name)
    actions = random_actions(env, env.max_episode_steps + 20)
    rollout(env, actions[: env.max_episode_steps - 10])
    saved = env.state_dict()
    expected, log = rollout(env, actions[env.max_episode_steps - 10 :]), env.episode_log()
    other = short(name, seed=99)
    other.load_state_dict(saved)
    assert torch.equal(rollout(other, actions[env.max_episode_steps - 10 :]), expected)
    assert other.episode_log() == log


@every_env
def test_the_log_adds_up(name: str) -> None:
    env = short(name, num_envs=3)
    rewards = torch.zeros(3)
    returns = []
    for action in random_actions(env, 2 * env.max_episode_steps):
        _, reward, terminated, truncated, _ = env.step(action)
        rewards += reward
        done = terminated | truncated
        returns += rewards[done].tolist()
        rewards[done] = 0.0
    log = env.episode_log()
    assert log["Train/episodes"] == len(returns)
    assert log["Train/mean_reward"] == pytest.approx(sum(returns) / len(returns), rel=1e-4, abs=1e-4)
    length_s = env.max_episode_steps * env.step_dt
    parts = sum(value for key, value in log.items() if key.startswith("Episode_Reward/"))
    assert parts * length_s == pytest.approx(log["Train/mean_reward"], rel=1e-6, abs=1e-6)
    ends = [value for key, value in log.items() if key.startswith("Episode_Termination/")]
    assert sum(ends) >= 1.0
    assert env.episode_log() == {}


@every_env
def test_a_nan_in_the_simulation_ends_that_episode_alone(name: str) -> None:
    env, twin = short(name), short(name)
    env.physics.data("qvel")[4, 0] = float("nan")
    action = random_actions(env, 1)[0]
    obs, reward, terminated, _, _ = env.step(action)
    expected, *_ = twin.step(action)
    assert terminated.tolist() == [False] * 4 + [True, False]
    assert torch.isfinite(reward).all()
    others = [0, 1, 2, 3, 5]
    assert torch.equal(obs["policy"][others], expected["policy"][others])
    assert env.episode_log()["Episode_Termination/diverged"] == 1.0


@every_env
def test_a_nan_action_is_named(name: str) -> None:
    env = short(name)
    action = random_actions(env, 1)[0]
    action[3, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="policy's action is not finite in environment 3"):
        env.step(action)


@every_env
def test_a_nan_in_a_term_is_named(name: str) -> None:
    env = short(name)
    reward = next(iter(env._rewards))

    def broken(state: object, **_: float) -> torch.Tensor:
        values = torch.zeros(env.num_envs)
        values[5] = float("nan")
        return values

    env._rewards[reward] = (broken, *env._rewards[reward][1:])
    with pytest.raises(NonFiniteError, match=f"reward term {reward} .*environment 5"):
        env.step(random_actions(env, 1)[0])


@every_env
def test_random_starts_spread_the_time_outs(name: str) -> None:
    env = short(name, num_envs=64)
    env.randomize_episode_lengths()
    assert env.episode_length.min() < 0.25 * env.max_episode_steps
    assert env.episode_length.max() > 0.75 * env.max_episode_steps
    assert env.episode_length.max() < env.max_episode_steps


def test_episodes_that_begin_amid_their_length_are_not_counted() -> None:
    env, other = short("lift", num_envs=16), short("lift", num_envs=16, seed=99)
    env.randomize_episode_lengths()
    whole = torch.zeros(16, dtype=torch.bool)
    lengths = []
    for step, action in enumerate(random_actions(env, 2 * env.max_episode_steps)):
        age = env.episode_length + 1
        _, _, terminated, truncated, _ = env.step(action)
        done = terminated | truncated
        lengths += age[done & whole].tolist()
        whole |= done
        if step == env.max_episode_steps // 2:
            assert whole.any()
            assert not whole.all()
            other.load_state_dict(env.state_dict())
        elif step > env.max_episode_steps // 2:
            other.step(action)
    log = env.episode_log()
    assert log["Train/episodes"] == len(lengths)
    assert log["Train/mean_episode_length"] == pytest.approx(sum(lengths) / len(lengths))
    assert other.episode_log() == log
