"""First states of coming episodes, made for many environments at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rl_platform.envs.randomness import EnvRandom

if TYPE_CHECKING:
    from rl_platform.envs.env import Env, Observations


class Starts:
    """A start for each environment, made ahead, so that a restart amid running episodes is only a copy.

    Making three starts costs as much as making hundreds, and in most steps some episode ends. So where one is
    missing, one is made for every environment that has used its own. Starts are drawn from streams of
    their own: they depend neither on when nor with which others they were made.
    """

    def __init__(self, env: Env, env_offset: int) -> None:
        """Make starts of `env`, once they are asked for; `env_offset` as the environment's."""
        self._env = env
        self._random = EnvRandom(env.num_envs, env_offset, env.device, env.physics.dtype, stream=1)
        self._ready = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        # where each stream was before it drew the start that is ready
        self._before = self._random.drawn.clone()
        # of each environment: its simulation, then what else is drawn, then what is measured
        self._rows: list[torch.Tensor] = []
        self._groups: list[str] = []
        self._possible = True

    def seed(self, seed: int) -> None:
        """Forget the starts and draw the next ones from `seed`."""
        self._random.seed(seed)
        self._ready.zero_()

    def forget(self) -> None:
        """Make the starts anew, with the same random numbers, before they are used."""
        self.load_state_dict(self.state_dict())

    def put(self, env_ids: torch.Tensor) -> Observations:
        """Start new episodes; return what is measured there, by observation group."""
        if self._possible and not self._ready.index_select(0, env_ids).all():
            self._possible = self._make((~self._ready).nonzero()[:, 0])
        if not self._possible:  # as the physics has it, or models that differ between environments
            return self._env.draw_start(env_ids, self._random)
        self._ready.index_fill_(0, env_ids, False)
        env, rows = self._env, [values.index_select(0, env_ids) for values in self._rows]
        drawn, groups = env.drawn_at_start(), self._groups
        simulations = len(rows) - len(drawn) - len(groups)
        env.physics.put_rows(env_ids, rows[:simulations])
        for name, values in env.episode_tensors().items():
            if name not in drawn:
                values.index_fill_(0, env_ids, 0)
        for values, own in zip(drawn.values(), rows[simulations:], strict=False):
            values.index_copy_(0, env_ids, own)
        return dict(zip(groups, rows[len(rows) - len(groups) :], strict=True))

    def _make(self, env_ids: torch.Tensor) -> bool:
        """Make starts in the environments' own simulations, which go on where they were; False: cannot."""
        env = self._env
        running = env.physics.rows(env_ids)
        if running is None:
            return False
        kept = {name: values[env_ids] for name, values in env.episode_tensors().items()}
        self._before[env_ids] = self._random.drawn[env_ids]
        first = env.draw_start(env_ids, self._random)
        drawn = [values[env_ids] for values in env.drawn_at_start().values()]
        self._groups = list(first)
        made = [*(env.physics.rows(env_ids) or []), *drawn, *first.values()]
        env.physics.put_rows(env_ids, running)
        for name, values in env.episode_tensors().items():
            values.index_copy_(0, env_ids, kept[name])
        if [rows.shape[1:] for rows in made] != [rows.shape[1:] for rows in self._rows]:
            self._rows = [rows.new_zeros(env.num_envs, *rows.shape[1:]) for rows in made]
        for rows, values in zip(self._rows, made, strict=True):
            rows.index_copy_(0, env_ids, values)
        self._ready[env_ids] = True
        return True

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the streams' positions, from which the starts can be made again."""
        state = self._random.state_dict()
        return state | {"drawn": torch.where(self._ready, self._before, state["drawn"])}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._random.load_state_dict(state)
        self._ready.zero_()
