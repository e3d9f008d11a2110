"""What an agent experienced, and what it turned out to be worth."""

from __future__ import annotations

from typing import Any

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
        actor_outputs: int,
        device: torch.device,
        next_obs: str | None = None,
    ) -> None:
        """Allocate; `observation_dims` names the groups to keep, `actor_outputs` is a network's width.

        `next_obs`: the group of which to keep, of every step, what it led to. None: what truncated episodes
        led to alone, `add_final_obs`; it costs less, but to know which they are is to wait for the device.
        """
        shape = (rollout_steps, num_envs)
        self.rollout_steps = rollout_steps
        self.num_envs = num_envs
        self.obs = {g: torch.zeros(*shape, d, device=device) for g, d in observation_dims.items()}
        self.action = torch.zeros(*shape, action_dim, device=device)
        self.actor_out = torch.zeros(*shape, actor_outputs, device=device)
        self.reward = torch.zeros(*shape, device=device)
        self.terminated = torch.zeros(*shape, dtype=torch.bool, device=device)
        self.done = torch.zeros(*shape, dtype=torch.bool, device=device)
        self.next_obs = None if next_obs is None else torch.zeros_like(self.obs[next_obs])
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

    def add_action(self, obs: dict[str, Tensor], action: Tensor, actor_out: Tensor) -> None:
        """First half of a step: what was seen and done, and what the actor's network gave."""
        if self.full:
            raise RuntimeError("the rollout is full: call update() before acting again")
        for group, stored in self.obs.items():
            stored[self.step].copy_(obs[group])
        self.action[self.step].copy_(action)
        self.actor_out[self.step].copy_(actor_out)

    def add_outcome(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> None:
        """Second half of a step: what came of it, (num_envs,) each."""
        self.reward[self.step].copy_(reward)
        self.terminated[self.step].copy_(terminated)
        torch.logical_or(terminated, truncated, out=self.done[self.step])
        self.step += 1

    def add_next_obs(self, obs: Tensor) -> None:
        """Keep what the last step led to (num_envs, d): where episodes ended their true last observations."""
        assert self.next_obs is not None
        self.next_obs[self.step - 1].copy_(obs)

    def add_final_obs(self, env_ids: Tensor, obs: Tensor) -> None:
        """Keep the last observations `obs` (k, d) of episodes that the last step truncated."""
        self.final_rows.append(env_ids + (self.step - 1) * self.num_envs)
        self.final_obs.append(obs)


class ReplayBuffer:
    """The latest transitions of every environment, in tensors (num_envs, capacity, …).

    Allocated once; when it is full the oldest step of every environment is overwritten.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_dims: dict[str, int],
        action_dim: int,
        device: torch.device,
    ) -> None:
        """Allocate; `capacity`: steps of each environment; `observation_dims` names the groups to keep."""
        widths = {"action": action_dim, "reward": 1, "terminated": 1}
        for group, width in observation_dims.items():
            widths |= {f"{group}_obs": width, f"next_{group}_obs": width}
        self.capacity, self.num_envs = capacity, num_envs
        self.columns = {k: torch.zeros(num_envs, capacity, d, device=device) for k, d in widths.items()}
        self.position, self.size = 0, 0  # where the next step goes, and how many there are

    def add(self, step: dict[str, Tensor]) -> None:
        """Keep one step of every environment: each column (num_envs, d), or (num_envs,) where d is 1."""
        for name, stored in self.columns.items():
            stored[:, self.position].copy_(step[name].view(self.num_envs, -1))
        self.position = (self.position + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def take(self, env_ids: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """Copies of the transitions at some places (k,) each, `steps` below `size`; each column (k, d)."""
        rows = env_ids * self.capacity + steps
        return {name: stored.flatten(0, 1).index_select(0, rows) for name, stored in self.columns.items()}

    def latest(self, name: str, steps: int) -> Tensor:
        """A copy of one column's last steps of every environment, (num_envs, steps, d)."""
        stored = self.columns[name]
        places = torch.arange(self.position - steps, self.position, device=stored.device) % self.capacity
        return stored.index_select(1, places)

    def state_dict(self) -> dict[str, Any]:
        """What is kept, a row for each environment, and where the next step goes.

        Live where the buffer is full, so that it is saved without a copy of it.
        """
        columns = self.columns  # of a part, a copy: a file would have all that it is a part of
        if self.size < self.capacity:
            columns = {name: stored[:, : self.size].clone() for name, stored in columns.items()}
        return {"position": self.position, "columns": columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what `state_dict` returned, where it was."""
        self.position = state["position"]
        self.size = state["columns"]["reward"].shape[1]
        for name, stored in self.columns.items():
            stored[:, : self.size].copy_(state["columns"][name])


def generalized_advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    δ_t = r_t + γ (1 - terminated_t) V(s'_t) - V(s_t);  A_t = δ_t + γλ (1 - done_t) A_{t+1}.
    All tensors are (rollout_steps, num_envs). `next_value` is the value of the state the step really
    led to, also where the environment was then reset.
    """
    delta = reward + gamma * next_value * ~terminated - value
    carry = gamma * gae_lambda * ~done
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(delta.shape[0])):
        running = torch.addcmul(delta[t], carry[t], running, out=advantage[t])
    return advantage
