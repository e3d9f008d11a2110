"""Environments simulated on the CPU for a learner on a GPU: their tensors are moved at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from rl_platform.envs.base import Observations, Page, Renderer, Viewer, VisibleEnv
from rl_platform.envs.terms import Measures


class _Moved(Mapping[str, torch.Tensor]):
    """Tensors that are moved when they are asked for."""

    def __init__(self, values: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self._values, self._device = values, device

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._values[name].to(self._device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class TransferEnv:
    """An environment on the CPU whose `device` is another: actions come from there, all results go there.

    The way there is through page-locked memory, so that the copies wait neither for each other nor for the
    host; the actions of a step are waited for, since the simulation needs them.
    """

    def __init__(self, env: VisibleEnv, device: torch.device) -> None:
        """Put the tensors of `env` onto `device`."""
        self.env, self.device = env, device
        self.num_envs, self.observation_dims = env.num_envs, env.observation_dims
        self.action_dim, self.num_choices = env.action_dim, env.num_choices
        self.step_dt, self.exact_resume, self.timer = env.step_dt, env.exact_resume, env.timer
        self.action_low, self.action_high = env.action_low.to(device), env.action_high.to(device)

    @property
    def max_episode_steps(self) -> int | None:
        """See `VectorEnv`."""
        return self.env.max_episode_steps

    def reset(self, seed: int | None = None) -> Observations:
        """See `VectorEnv`."""
        return self._moved(self.env.reset(seed))

    def step(
        self, action: torch.Tensor
    ) -> tuple[Observations, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """See `VectorEnv`."""
        with self.timer("waiting"):  # for the policy
            action = action.to(self.env.device)
        obs, reward, terminated, truncated, info = self.env.step(action)
        moved = self._moved({"obs": obs, "info": info, "rest": [reward, terminated, truncated]})
        return moved["obs"], *moved["rest"], moved["info"]

    def _moved(self, values: Any) -> Any:
        """The same with every tensor in it on the learner's device; one that is there twice moves once."""
        return self._move(values, {})

    def _move(self, values: Any, done: dict[int, torch.Tensor]) -> Any:
        if isinstance(values, torch.Tensor):
            if id(values) not in done:
                pinned = values.pin_memory() if self.device.type == "cuda" else values
                done[id(values)] = pinned.to(self.device, non_blocking=True)
            return done[id(values)]
        if isinstance(values, Measures):  # computed when they are asked for
            return _Moved(values, self.device)
        if isinstance(values, dict):
            return {name: self._move(value, done) for name, value in values.items()}
        return [self._move(value, done) for value in values] if isinstance(values, list) else values

    def randomize_episode_lengths(self) -> None:
        """See `VectorEnv`."""
        self.env.randomize_episode_lengths()

    def check(self) -> None:
        """See `VectorEnv`."""
        self.env.check()

    def episode_log(self) -> dict[str, float]:
        """See `VectorEnv`."""
        return self.env.episode_log()

    def describe(self) -> str:
        """See `VectorEnv`."""
        return self.env.describe()

    def state_dict(self) -> dict[str, Any]:
        """See `VectorEnv`."""
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `VectorEnv`."""
        self.env.load_state_dict(state)

    def renderer(self, width: int, height: int, camera: str | None) -> Renderer:
        """See `VisibleEnv`."""
        return self.env.renderer(width, height, camera)

    def viewer(self, page: Page | None = None) -> Viewer:
        """See `VisibleEnv`."""
        return self.env.viewer(page)

    def close(self) -> None:
        """See `VectorEnv`."""
        self.env.close()
