"""Small stand-ins: an environment that steps in microseconds, and a session that writes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from rl_platform.algos.ppo import PPO, PPOConfig, make_ppo
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import NonFiniteError
from rl_platform.models.actor_critic import ActorConfig, ActorCriticConfig
from rl_platform.models.mlp import MLPConfig
from rl_platform.run_dir import CheckpointError
from rl_platform.schedule import Schedule
from rl_platform.signals import StopSignal
from rl_platform.timing import PhaseTimer
from rl_platform.trainer import Session


class PointMass:
    """A point in the plane that has to reach the origin; an episode lasts 10 steps at most.

    Environment i starts at a distance drawn from one generator; `bad_step` makes the reward of
    environment `bad_env` a NaN at that step.
    """

    num_choices: int | None = None
    exact_resume = True

    def __init__(self, num_envs: int = 4, seed: int = 0, bad_step: int = -1, bad_env: int = 0) -> None:
        self.num_envs, self.device = num_envs, torch.device("cpu")
        self.observation_dims = {"policy": 3}
        self.action_dim, self.step_dt, self.max_episode_steps = 2, 0.1, 10
        self.action_high = torch.ones(2)
        self.action_low = -self.action_high
        self.timer = PhaseTimer()
        self.bad_step, self.bad_env = bad_step, bad_env
        self.steps = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.position, self.age = torch.zeros(num_envs, 2), torch.zeros(num_envs, dtype=torch.int64)
        self.returns = torch.zeros(num_envs)
        self.ended: list[tuple[float, float, float]] = []

    def reset(self, seed: int | None = None) -> dict[str, torch.Tensor]:
        if seed is not None:
            self.generator.manual_seed(seed)
        self._start(torch.ones(self.num_envs, dtype=torch.bool))
        return self._observe()

    def _start(self, mask: torch.Tensor) -> None:
        drawn = torch.rand(self.num_envs, 2, generator=self.generator) * 2 - 1
        self.position[mask], self.age[mask], self.returns[mask] = drawn[mask], 0, 0.0

    def _observe(self) -> dict[str, torch.Tensor]:
        return {"policy": torch.cat([self.position, self.age[:, None] / 10.0], dim=1)}

    def step(
        self, action: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        with self.timer("simulation"):
            self.position += 0.2 * action.clamp(-1, 1)
            self.age += 1
            self.steps += 1
        distance = self.position.norm(dim=1)
        if self.steps == self.bad_step:
            raise NonFiniteError(
                f"reward term distance is not finite in environment {self.bad_env}", self.bad_env
            )
        reward = -distance
        self.returns += reward
        terminated, truncated = distance > 3.0, self.age >= 10
        truncated = truncated & ~terminated
        done, success = terminated | truncated, distance < 0.2
        info = {
            "final_obs": self._observe(),
            "rewards": {"distance": reward},
            "metrics": {"distance": distance, "success_2cm": (distance < 0.02).float()},
            "success": success,
        }
        for i in done.nonzero()[:, 0].tolist():
            self.ended.append((float(self.returns[i]), float(self.age[i]), float(success[i])))
        if done.any():
            self._start(done)
        return self._observe(), reward, terminated, truncated, info

    def randomize_episode_lengths(self) -> None:
        self.age = torch.randint(0, 10, (self.num_envs,), generator=self.generator)

    def check(self) -> None:
        pass

    def episode_log(self) -> dict[str, float]:
        ended, self.ended = self.ended, []
        if not ended:
            return {}
        means = [sum(column) / len(ended) for column in zip(*ended, strict=True)]
        names = ("Train/mean_reward", "Train/mean_episode_length", "Train/success_rate")
        return dict(zip(names, means, strict=True)) | {"Train/episodes": float(len(ended))}

    def describe(self) -> str:
        return "a point in the plane"

    def state_dict(self) -> dict[str, Any]:
        tensors = {"position": self.position, "age": self.age, "returns": self.returns}
        return {k: v.clone() for k, v in tensors.items()} | {
            "generator": self.generator.get_state(),
            "ended": list(self.ended),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("position", "age", "returns"):
            getattr(self, name).copy_(state[name])
        self.generator.set_state(state["generator"])
        self.ended, self.steps = list(state["ended"]), state["steps"]

    def close(self) -> None:
        pass


def small_ppo(env: VectorEnv, seed: int = 0, **changes: Any) -> PPO:
    """PPO with a network of 8 units and rollouts of 8 steps."""
    mlp = MLPConfig(hidden_sizes=[8], activation="elu")
    actor = ActorConfig([8], "elu", std_type="log", init_std=0.5, min_std=0.05, max_std=2.0)
    agent = ActorCriticConfig("ppo", actor, mlp, normalize_obs=True, compile=False, mixed_precision=False)
    numbers: dict[str, Any] = dict(
        name="ppo", rollout_steps=8, update_epochs=2, num_minibatches=2, learning_rate=1e-3,
        lr_schedule="adaptive", target_kl=0.01, min_learning_rate=1e-5, max_learning_rate=1e-2,
        gamma=0.9, gae_lambda=0.9, clip_coef=0.2, clip_vloss=True, ent_coef=0.0, vf_coef=1.0,
        max_grad_norm=1.0, normalize_advantage="batch", normalize_value=True, normalize_reward=False,
        recompute_advantage=False, reward_scale=1.0, bootstrap_truncated=True, bounds_loss_coef=0.0,
        noise_correlation=0.0,
        random_episode_start=True,
    )  # fmt: skip
    algo = PPOConfig(**(numbers | changes))
    return make_ppo(agent, algo, env.observation_dims, env.action_dim, env.num_envs, "cpu", seed)


class MemoryRunDir:
    """Keeps checkpoints in memory, through bytes, as a file would."""

    def __init__(self, path: Path, full: bool = False) -> None:
        self.path, self.full = path, full
        self.saved: list[tuple[int, bool]] = []
        self.state: dict[str, Any] = {}
        self.stop_requests: list[str] = []

    def save_checkpoint(self, payload: dict[str, Any], iteration: int, best: bool = False) -> Path:
        if self.full:
            raise CheckpointError("no space left on the disk: 12 MB are needed.")
        path = self.path / ("best.pt" if best else "last.pt")
        torch.save(payload, path)
        self.saved.append((iteration, best))
        return path

    def load_checkpoint(self, which: str = "last") -> dict[str, Any]:
        return torch.load(self.path / f"{which}.pt", weights_only=True)

    def update_state(self, **fields: Any) -> None:
        self.state |= fields

    def take_stop_request(self) -> str | None:
        return self.stop_requests.pop() if self.stop_requests else None


class MemoryLogger:
    """Keeps the metrics; also plays the console."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.messages: list[str] = []
        self.videos: list[int] = []

    def log(self, metrics: dict[str, float], env_steps: int) -> None:
        self.rows.append((env_steps, dict(metrics)))

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        self.videos.append(env_steps)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def iteration(self, *args: Any, **kwargs: Any) -> None:
        pass

    def message(self, text: str) -> None:
        self.messages.append(text)


def schedule(**changes: Any) -> Schedule:
    """Five iterations, saved at the end; nothing else."""
    numbers: dict[str, Any] = dict(
        max_iterations=5, total_env_steps=None, stop_after_s=None, score_to_win=None, save_interval=0,
        save_best_after=0, eval_interval=0, video_interval=0, log_interval=1,
    )  # fmt: skip
    return Schedule(**(numbers | changes))


def session(path: Path, **changes: Any) -> Session:
    """A session that writes its checkpoints to `path`; `changes` are the schedule's."""
    logger: Any = MemoryLogger()
    return Session(
        schedule=schedule(**changes),
        run_dir=MemoryRunDir(path),  # type: ignore[arg-type]
        loggers=logger,
        console=logger,
        stop=StopSignal(),
        started=time.monotonic(),
        evaluate=lambda policy: {},
        record=lambda policy, iteration: None,
    )
