"""Our normalisation, time limit and videos do what Gymnasium's and Stable-Baselines3's wrappers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RenderCollection, TimeLimit
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward

import tests.own_environments  # noqa: F401  registers tests/Counter-v0
from rl_platform.assemble import build_env
from rl_platform.config import compose
from rl_platform.envs.gymnasium import SingleEnv
from rl_platform.envs.render import policy_frames, record_video
from rl_platform.models.normalize import OBSERVATION_CLIP, Normalizer, ReturnScale

GAMMA, NUM_ENVS, STEPS = 0.9, 4, 150


class Noise(gymnasium.Env):
    """Random observations and rewards; an episode ends after 7 to 9 steps, as `ends` says."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, ends: str) -> None:
        self.ends = ends

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(7, 10))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return (np.array([5.0, -1.0, 0.0]) + self.np_random.normal(size=3) * [2.0, 0.1, 9.0]).astype(
            np.float32
        )

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = self.left == 0
        reward = float(self.np_random.normal(1.0, 2.0))
        return (
            self._observe(),
            reward,
            over and self.ends == "terminated",
            over and self.ends == "truncated",
            {},
        )


def noise(ends: str, mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Noise(ends)] * NUM_ENVS, autoreset_mode=mode)


def played(ends: str, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> tuple[np.ndarray, ...]:
    """Observations `(STEPS + 1, NUM_ENVS, 3)`, rewards and ends `(STEPS, NUM_ENVS)`."""
    env, idle = noise(ends, mode), np.zeros(NUM_ENVS, np.int64)
    obs = [env.reset(seed=0)[0]]
    rewards, ended = [], []
    for _ in range(STEPS):
        after, reward, terminated, truncated, _ = env.step(idle)
        obs.append(after)
        rewards.append(reward)
        ended.append(terminated | truncated)
    return np.stack(obs), np.stack(rewards), np.stack(ended)


class RunningMeanStd:
    """As Stable-Baselines3 has it in common/running_mean_std.py: a phantom sample of weight 1e-4, N(0, 1)."""

    def __init__(self) -> None:
        self.mean: Any = 0.0
        self.var: Any = 1.0
        self.count = 1e-4

    def update(self, rows: np.ndarray) -> None:
        n, delta = len(rows), rows.mean(0) - self.mean
        total = self.count + n
        m2 = self.var * self.count + rows.var(0) * n + delta**2 * self.count * n / total
        self.mean, self.var, self.count = self.mean + delta * n / total, m2 / total, total


def test_observations_are_normalised_as_gymnasium_does() -> None:
    theirs = NormalizeObservation(noise("terminated", AutoresetMode.NEXT_STEP))
    raw, _, _ = played("terminated", AutoresetMode.NEXT_STEP)
    ours = Normalizer(3)
    expected = [theirs.reset(seed=0)[0]]
    expected += [theirs.step(np.zeros(NUM_ENVS, np.int64))[0] for _ in range(STEPS)]
    for t, rows in enumerate(torch.from_numpy(raw)):
        ours.update(rows)
        if t > 5:  # the phantom sample of theirs fades
            np.testing.assert_allclose(ours(rows).numpy(), expected[t], rtol=1e-3, atol=1e-4)


def test_observations_are_normalised_and_clipped_as_stable_baselines3_does() -> None:
    """VecNormalize: clip((x - mean) / √(var + 1e-8), ±10)."""
    raw, _, _ = played("terminated")
    raw[STEPS, 0] = 1e4  # far outside of what was seen
    moments, ours = RunningMeanStd(), Normalizer(3, OBSERVATION_CLIP)
    for rows in raw[:STEPS]:
        moments.update(rows.astype(np.float64))
        ours.update(torch.from_numpy(rows))
    expected = np.clip((raw[STEPS] - moments.mean) / np.sqrt(moments.var + 1e-8), -10.0, 10.0)
    assert (expected == 10.0).any()
    np.testing.assert_allclose(ours(torch.from_numpy(raw[STEPS])).numpy(), expected, rtol=1e-3, atol=1e-4)


def scaled(rewards: np.ndarray, ended: np.ndarray) -> np.ndarray:
    ours = torch.from_numpy(rewards).float()
    ReturnScale(NUM_ENVS, GAMMA, torch.device("cpu")).update_and_scale_(ours, torch.from_numpy(ended))
    return ours.numpy()


def test_rewards_are_normalised_as_gymnasium_does() -> None:
    theirs = NormalizeReward(noise("truncated", AutoresetMode.SAME_STEP), gamma=GAMMA)
    _, rewards, ended = played("truncated")
    theirs.reset(seed=0)
    expected = np.stack([theirs.step(np.zeros(NUM_ENVS, np.int64))[1] for _ in range(STEPS)])
    np.testing.assert_allclose(scaled(rewards, ended)[5:], expected[5:], rtol=1e-3)


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_rewards_are_normalised_as_stable_baselines3_does(ends: str) -> None:
    """Where an episode terminates, Gymnasium leaves what came before out of its return; they do not."""
    _, rewards, ended = played(ends)
    returns, moments = np.zeros(NUM_ENVS), RunningMeanStd()
    for t, ours in enumerate(scaled(rewards, ended)):
        returns = returns * GAMMA + rewards[t]
        moments.update(returns)
        if t > 5:  # they also clip to ±10, which no reward here comes near
            np.testing.assert_allclose(ours, rewards[t] / np.sqrt(moments.var + 1e-8), rtol=1e-3)
        returns[ended[t]] = 0.0


def test_the_oracle_is_stable_baselines3() -> None:
    library = pytest.importorskip("stable_baselines3.common.running_mean_std")
    theirs, ours = library.RunningMeanStd(shape=(3,)), RunningMeanStd()
    for rows in played("terminated")[0].astype(np.float64):
        theirs.update(rows)
        ours.update(rows)
    np.testing.assert_allclose(ours.mean, theirs.mean)
    np.testing.assert_allclose(ours.var, theirs.var)


def test_an_episode_times_out_as_under_gymnasiums_time_limit() -> None:
    limited = SingleEnv("lift", overrides=["env.episode_length_s=0.2"])
    steps = limited._env.max_episode_steps
    theirs = TimeLimit(SingleEnv("lift", overrides=["env.episode_length_s=30"]), steps)
    first, _ = limited.reset(seed=4)
    np.testing.assert_array_equal(first, theirs.reset(seed=4)[0])
    for step in range(steps):
        action = np.full_like(limited.action_space.sample(), 0.3)
        obs, reward, terminated, truncated, _ = limited.step(action)
        expected = theirs.step(action)
        np.testing.assert_array_equal(obs, expected[0])
        assert (reward, terminated, truncated) == expected[1:4]
        assert truncated == (step == steps - 1)


def test_a_video_shows_what_record_video_would(tmp_path: Path) -> None:
    """A picture after the reset and after each step, in the environment's own pace."""
    import imageio_ffmpeg

    overrides = ["env.id=tests/Counter-v0", "env.import=tests.own_environments"]
    env = build_env(compose(["env=gymnasium", *overrides]), num_envs=1, seed=0, num_threads=1)
    frames = list(policy_frames(env, lambda obs: torch.zeros(1, 1), 5, seed=1))
    # RecordVideo captures as RenderCollection does, and needs MoviePy on top
    theirs: Any = RenderCollection(gymnasium.make("tests/Counter-v0", render_mode="rgb_array"))
    theirs.reset()
    for _ in range(4):
        theirs.step(5)
    np.testing.assert_array_equal(np.stack(frames), np.stack(theirs.render()))

    again = policy_frames(env, lambda obs: torch.zeros(1, 1), 5, seed=1)
    path = record_video(tmp_path / "video.mp4", again, fps=1.0 / env.step_dt)
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert count == 5
    assert seconds == pytest.approx(5 / 20, abs=0.01)
    env.close()
