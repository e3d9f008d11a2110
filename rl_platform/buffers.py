"""Storage for what an agent experienced."""

from __future__ import annotations

import torch
from torch import Tensor


class RolloutBuffer:
    """`rollout_steps` steps of every environment, in tensors (rollout_steps, num_envs, …).

    Allocated once and overwritten by every rollout.
    """

    def __init__(
        self,
        rollout_steps: int,
        num_envs: int,
        observation_dims: dict[str, int],
        action_dim: int,
        device: torch.device,
    ) -> None:
        """Allocate; `observation_dims` names the groups to keep."""
        shape = (rollout_steps, num_envs)
        self.rollout_steps = rollout_steps
        self.num_envs = num_envs
        self.obs = {g: torch.zeros(*shape, d, device=device) for g, d in observation_dims.items()}
        self.action = torch.zeros(*shape, action_dim, device=device)
        self.mean = torch.zeros(*shape, action_dim, device=device)
        self.std = torch.zeros(*shape, action_dim, device=device)
        self.reward = torch.zeros(*shape, device=device)
        self.terminated = torch.zeros(*shape, dtype=torch.bool, device=device)
        self.done = torch.zeros(*shape, dtype=torch.bool, device=device)
        self.clear()

    def clear(self) -> None:
        """Start a new rollout."""
        self.step = 0
        self.final_rows: list[Tensor] = []
        self.final_obs: list[Tensor] = []

    @property
    def full(self) -> bool:
        """Whether the rollout is complete."""
        return self.step == self.rollout_steps

    def add_action(self, obs: dict[str, Tensor], action: Tensor, mean: Tensor, std: Tensor) -> None:
        """First half of a step: what was seen and done."""
        if self.full:
            raise RuntimeError("the rollout is full: call update() before acting again")
        for group, stored in self.obs.items():
            stored[self.step].copy_(obs[group])
        self.action[self.step].copy_(action)
        self.mean[self.step].copy_(mean)
        self.std[self.step].copy_(std)

    def add_outcome(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> None:
        """Second half of a step: what came of it, (num_envs,) each."""
        self.reward[self.step].copy_(reward)
        self.terminated[self.step].copy_(terminated)
        torch.logical_or(terminated, truncated, out=self.done[self.step])
        self.step += 1

    def add_final_obs(self, env_ids: Tensor, obs: Tensor) -> None:
        """Keep the last observations `obs` (k, d) of episodes that the last step truncated."""
        self.final_rows.append(env_ids + (self.step - 1) * self.num_envs)
        self.final_obs.append(obs)
