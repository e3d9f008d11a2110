"""Gymnasium's MuJoCo tasks in our version and in the original: same states, same actions, same numbers."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from rl_platform import registry
from rl_platform.assemble import typed
from rl_platform.config import compose
from rl_platform.envs import make_env
from rl_platform.envs.env import Env

TASKS = {
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "humanoid_v5": "Humanoid-v5",
    "humanoid_standup": "HumanoidStandup-v5",
    "swimmer": "Swimmer-v5",
    "reacher": "Reacher-v5",
    "pusher": "Pusher-v5",
    "inverted_pendulum": "InvertedPendulum-v5",
    "inverted_double_pendulum": "InvertedDoublePendulum-v5",
}
STEPS = 1000
SHOWN = "{scale: 1.0, noise: 0.0}"

# (task, Gymnasium's options, ours)
OPTIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "half_cheetah",
        {
            "forward_reward_weight": 2.0,
            "ctrl_cost_weight": 0.3,
            "reset_noise_scale": 0.3,
            "exclude_current_positions_from_observation": False,
        },
        [
            "env.rewards.reward_forward.weight=2.0",
            "env.rewards.reward_ctrl.weight=-0.3",
            "env.events.reset_noise.scale=0.3",
            f"env.observations.policy.skipped_qpos={SHOWN}",
        ],
    ),
    ("half_cheetah", {"frame_skip": 2}, ["env.substeps=2", "env.episode_length_s=20"]),
    (
        "half_cheetah",
        {"xml_file": "walker2d.xml"},
        ["env.xml_file=walker2d.xml", "env.timestep=0.002", "env.episode_length_s=10"],
    ),
    (
        "hopper",
        {
            "healthy_reward": 3.0,
            "terminate_when_unhealthy": False,
            "healthy_state_range": (-5.0, 5.0),
            "healthy_z_range": (0.9, 1.4),
            "healthy_angle_range": (-0.05, 0.1),
        },
        [
            "env.rewards.reward_survive.weight=3.0",
            "env.terminations.unhealthy=null",
            "env.healthy={state: [-5.0,5.0], z: [0.9,1.4], angle: [-0.05,0.1]}",
        ],
    ),
    (
        "walker2d",
        {"healthy_z_range": (1.0, 1.3), "healthy_angle_range": (-0.1, 0.3)},
        ["env.healthy={z: [1.0,1.3], angle: [-0.1,0.3]}"],
    ),
    (
        "ant",
        {
            "contact_cost_weight": 0.02,
            "contact_force_range": (-3.0, 2.0),
            "main_body": "front_left_leg",
            "exclude_current_positions_from_observation": False,
        },
        [
            "env.rewards.reward_contact={weight: -0.02, force_range: [-3.0,2.0]}",
            "env.observations.policy.cfrc_ext.force_range=[-3.0,2.0]",
            "env.main_body=front_left_leg",
            f"env.observations.policy.skipped_qpos={SHOWN}",
        ],
    ),
    ("ant", {"include_cfrc_ext_in_observation": False}, ["env.observations.policy.cfrc_ext=null"]),
    (
        "humanoid_v5",
        {
            "contact_cost_weight": 1e-5,
            "contact_cost_range": (0.5, 3.0),
            "include_cinert_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        },
        [
            "env.rewards.reward_contact={weight: -1.0, coef: 1.0e-5, cost_range: [0.5,3.0]}",
            "env.observations.policy.cinert=null",
            "env.observations.policy.cfrc_ext=null",
        ],
    ),
    (
        "humanoid_standup",
        {
            "ctrl_cost_weight": 0.7,
            "include_cvel_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
        },
        [
            "env.rewards.reward_quadctrl.weight=-0.7",
            "env.observations.policy.cvel=null",
            "env.observations.policy.qfrc_actuator=null",
        ],
    ),
    (
        "reacher",
        {"reward_dist_weight": 2.0, "reward_control_weight": 0.1},
        ["env.rewards.reward_dist.weight=-2.0", "env.rewards.reward_ctrl.weight=-0.1"],
    ),
    (
        "pusher",
        {"reward_near_weight": 2.0, "reward_dist_weight": 3.0, "reward_control_weight": 0.5},
        [
            "env.rewards.reward_near.weight=-2.0",
            "env.rewards.reward_dist.weight=-3.0",
            "env.rewards.reward_ctrl.weight=-0.5",
        ],
    ),
    ("inverted_double_pendulum", {"healthy_reward": 1.0}, ["env.rewards.reward_survive.weight=1.0"]),
]


def make(name: str, num_envs: int, *overrides: str, dtype: torch.dtype = torch.float64) -> Env:
    config = typed("env", compose([f"env={name}", *overrides]).env)
    task = registry.load("env", config.name).TASK
    return make_env(config, task, num_envs=num_envs, seed=1, device="cpu", num_threads=1, dtype=dtype)


def start_like(original: gymnasium.Env, env: Env, env_id: int) -> np.ndarray:
    """Begin an episode of the original at the state where ours begins; its observation."""
    original.reset()
    inner: Any = original.unwrapped
    mujoco.mj_resetData(inner.model, inner.data)
    qpos, qvel = (env.physics.data(field)[env_id].numpy() for field in ("qpos", "qvel"))
    inner.set_state(qpos, qvel)
    return inner._get_obs()


def compare(name: str, num_envs: int, steps: int, options: dict[str, Any], overrides: list[str]) -> Env:
    """Step both; restart an original wherever ours has begun a new episode."""
    env = make(name, num_envs, *overrides)
    originals = [gymnasium.make(TASKS[name], **options) for _ in range(num_envs)]
    low, high = env.action_low, env.action_high
    assert np.array_equal(originals[0].action_space.low, low.numpy())  # type: ignore[attr-defined]
    assert np.array_equal(originals[0].action_space.high, high.numpy())  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    obs = env.reset(seed=5)["policy"]
    for i, original in enumerate(originals):
        np.testing.assert_allclose(obs[i].numpy(), start_like(original, env, i), rtol=1e-9, atol=1e-9)
    for _ in range(steps):
        action = low + (high - low) * torch.rand(num_envs, env.action_dim, generator=generator)
        groups, reward, terminated, truncated, info = env.step(action)
        for i, original in enumerate(originals):
            exact = action[i].double().numpy()
            seen, gain, failed, over, told = original.step(exact)
            last = info["final_obs"]["policy"][i].numpy()
            np.testing.assert_allclose(last, seen, rtol=1e-9, atol=1e-9)
            assert float(reward[i]) == pytest.approx(float(gain), rel=1e-9, abs=1e-9)
            assert (bool(terminated[i]), bool(truncated[i])) == (failed, over and not failed)
            for term, share in info["rewards"].items():
                if term in told:
                    assert float(share[i]) == pytest.approx(float(told[term]), rel=1e-9, abs=1e-9), term
            if failed or over:
                first = start_like(original, env, i)
                np.testing.assert_allclose(groups["policy"][i].numpy(), first, rtol=1e-9, atol=1e-9)
    return env


@pytest.mark.parametrize("name", TASKS)
def test_a_thousand_steps_are_the_originals(name: str) -> None:
    env = compare(name, 2, STEPS, {}, [])
    spec = gymnasium.spec(TASKS[name])
    assert env.max_episode_steps == spec.max_episode_steps
    if spec.reward_threshold is not None:
        assert env.config.solved_return == spec.reward_threshold
    log = env.episode_log()
    assert log["Train/episodes"] >= 2
    assert 0.0 <= log["Metrics/solved"] <= 1.0
    assert "Train/success_rate" not in log  # the return is the score


def test_solved_is_the_share_of_episodes_with_the_return() -> None:
    config = typed("env", compose(["env=inverted_pendulum"]).env)
    config.solved_return = 6.0
    env = make_env(
        config, registry.load("env", config.name).TASK, num_envs=8, seed=0, device="cpu", num_threads=1
    )
    returns, current = [], torch.zeros(8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        _, reward, terminated, truncated, _ = env.step(torch.randn(8, env.action_dim, generator=generator))
        current += reward
        done = terminated | truncated
        returns += current[done].tolist()
        current[done] = 0.0
    share = sum(value >= 6.0 for value in returns) / len(returns)
    assert 0.0 < share < 1.0
    assert env.episode_log()["Metrics/solved"] == pytest.approx(share)


@pytest.mark.parametrize(("name", "options", "overrides"), OPTIONS)
def test_options_are_the_originals(name: str, options: dict[str, Any], overrides: list[str]) -> None:
    compare(name, 1, 150, options, overrides)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference between the distribution functions of two samples; 0 for the same constant."""
    if np.ptp(a) == np.ptp(b) == 0.0:
        return float(abs(a[0] - b[0]))
    values = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


@pytest.mark.parametrize("name", TASKS)
def test_episodes_start_as_the_originals(name: str) -> None:
    """Each coordinate's distribution over many resets (Kolmogorov-Smirnov)."""
    samples = 1500
    env = make(name, samples)
    ours = torch.cat([env.physics.data("qpos"), env.physics.data("qvel")], 1).numpy()
    original = gymnasium.make(TASKS[name])
    inner: Any = original.unwrapped
    theirs = []
    for i in range(samples):
        inner.reset(seed=7 if i == 0 else None)
        theirs.append(np.concatenate([inner.data.qpos, inner.data.qvel]))
    for mine, original_values in zip(ours.T, np.array(theirs).T, strict=True):
        assert distance(mine, original_values) < 2.1 * np.sqrt(2.0 / samples)  # p = 0.0003


@pytest.mark.parametrize("name", TASKS)
def test_single_precision_differs_by_rounding_alone(name: str) -> None:
    exact, rounded = make(name, 4), make(name, 4, dtype=torch.float32)
    for step in range(30):
        action = torch.full((4, exact.action_dim), 0.1 * (step % 3))
        wanted, given = exact.step(action), rounded.step(action)
        assert torch.equal(wanted[0]["policy"].float(), given[0]["policy"])
        torch.testing.assert_close(wanted[1].float(), given[1], rtol=1e-5, atol=1e-5)
