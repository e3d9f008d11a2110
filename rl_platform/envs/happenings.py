"""What happens to an episode beside the policy's actions: events, and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rl_platform.envs import trial
from rl_platform.envs.terms import bind
from rl_platform.errors import UserError

if TYPE_CHECKING:
    from rl_platform.envs.env import Env


class Happenings:
    """A task's events and commands: at an episode's start, and again within it.

    Attributes:
        events: those of an episode's start, name → (function, own settings, parameters).
        commands: name → `(num_envs, dim)`, live.
        command_age: steps since each was drawn, name → `(num_envs,)` int64, live.
        event_due: steps until an event happens again, name → `(num_envs,)` int64, live.
    """

    def __init__(self, env: Env) -> None:
        """Bind the events and commands of `env`, whose physics exists."""
        self._env, task, config = env, env.task, env.config
        n, device = env.num_envs, env.device
        self.commands = {k: torch.zeros(n, c.dim, device=device) for k, c in task.commands.items()}
        self.command_age = {k: torch.zeros(n, dtype=torch.int64, device=device) for k in task.commands}
        self._commands = bind("commands", task.commands, config.commands)
        events = bind("events", task.events, config.events)
        self.events = {k: event for k, event in events.items() if event[1]["every_s"] is None}
        self._repeated = {k: event for k, event in events.items() if k not in self.events}
        self.event_due = {k: torch.zeros(n, dtype=torch.int64, device=device) for k in self._repeated}
        # steps between two draws of a command, for those that change within an episode
        settings = {name: own for name, (_, own, _) in self._commands.items()}
        periods = {k: round(own["resampling_time_s"] / env.step_dt) for k, own in settings.items()}
        self._periods = {k: period for k, period in periods.items() if period < env.max_episode_steps}

    @property
    def within_episodes(self) -> bool:
        """Whether some happen again within an episode."""
        return bool(self._periods or self._repeated)

    def start(self, env_ids: torch.Tensor) -> None:
        """Begin episodes in simulations that are reset."""
        for name, (event, _, parameters) in self.events.items():
            trial.call(f"event {name}", event, self._env, env_ids, **parameters)
        self._env.physics.forward(env_ids)
        for name in self._commands:
            self._draw(name, env_ids)
        for name in self._repeated:
            self._schedule(name, env_ids)

    def due(self, done: torch.Tensor) -> dict[str, torch.Tensor]:
        """Count a step; return whose commands and events it is time for, name → ids, but of ended episodes.

        A task may have a command and an event of one name: "command goal", "event push".
        """
        due = {}
        for name, period in self._periods.items():
            self.command_age[name] += 1
            due[f"command {name}"] = self.command_age[name] >= period
        for name in self._repeated:
            self.event_due[name] -= 1
            due[f"event {name}"] = self.event_due[name] <= 0
        ids = {name: (whose & ~done).nonzero()[:, 0] for name, whose in due.items()}
        return {name: env_ids for name, env_ids in ids.items() if len(env_ids)}

    def happen(self, due: dict[str, torch.Tensor]) -> None:
        """Draw the commands, and let the events happen, that are `due`.

        The policy sees them in this step's observation; rewards count from the next step on, as its
        action could not know of them (Isaac Lab's order).
        """
        for name in self._periods:
            if (env_ids := due.get(f"command {name}")) is not None:
                self._draw(name, env_ids)
        for name, (event, _, parameters) in self._repeated.items():
            if (env_ids := due.get(f"event {name}")) is not None:
                trial.call(f"event {name}", event, self._env, env_ids, **parameters)
                self._env.physics.forward(env_ids)
                self._schedule(name, env_ids)

    def _draw(self, name: str, env_ids: torch.Tensor) -> None:
        command, _, parameters = self._commands[name]
        value = trial.call(f"command {name}", command.sample, self._env, env_ids, **parameters)
        if value.shape != (len(env_ids), command.dim):
            wanted = f"(len(env_ids), {command.dim}), here {(len(env_ids), command.dim)}"
            raise UserError(f"command {name} has the shape {tuple(value.shape)}; it must be {wanted}")
        self.commands[name].index_copy_(0, env_ids, value.to(torch.float32))
        self.command_age[name].index_fill_(0, env_ids, 0)

    def _schedule(self, name: str, env_ids: torch.Tensor) -> None:
        """Draw when an event happens next."""
        every_s = self._repeated[name][1]["every_s"]
        wait = self._env.random.uniform_in(env_ids, [every_s])[:, 0] / self._env.step_dt
        self.event_due[name][env_ids] = wait.round().to(torch.int64).clamp(min=1)
