"""First states of coming episodes, made for many environments at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rl_platform import chosen
from rl_platform.envs.randomness import EnvRandom

if TYPE_CHECKING:
    from rl_platform.envs.env import Env, Observations


LOOK_EVERY = 16  # steps, where to look whether starts are missing is to wait for the device


class Starts:
    """A start for each environment, made ahead, so that a restart amid running episodes is only a copy.

    Making three starts costs as much as making hundreds, and in most steps some episode ends. So where one is
    missing, one is made for every environment that has used its own. Starts are drawn from streams of
    their own: they depend neither on when nor with which others they were made.

    On a device that runs behind, episodes restart by a mask, and starts are made at every 16th step: one that
    ends again before that begins as it did the last time.
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
        self._calls = 0  # of `look`
        self.possible = True  # whether they can be made ahead, as far as is known

    def seed(self, seed: int) -> None:
        """Forget the starts and draw the next ones from `seed`."""
        self._random.seed(seed)
        self._ready.zero_()
        self._calls = 0

    def forget(self) -> None:
        """Make the starts anew, with the same random numbers, before they are used."""
        self.load_state_dict(self.state_dict())

    def put(self, which: torch.Tensor) -> Observations:
        """Start new episodes, by ids or a mask (`chosen.py`); return what is measured there, by group."""
        if not chosen.is_mask(which):
            if self.possible and not bool(self._ready.index_select(0, which).all()):
                self.possible = self._make_missing()
            if not self.possible:  # models that differ between environments
                return self._env.draw_start(which, self._random)
        chosen.fill(self._ready, which, False)
        env, start = self._env, [chosen.take(values, which) for values in self._rows]
        drawn, groups = env.drawn_at_start(), self._groups
        simulations = len(start) - len(drawn) - len(groups)
        env.physics.put_rows(which, start[:simulations])
        for name, values in env.episode_tensors().items():
            if name not in drawn:
                chosen.fill(values, which, 0)
        for values, own in zip(drawn.values(), start[simulations:], strict=False):
            chosen.put(values, which, own)
        return dict(zip(groups, start[len(start) - len(groups) :], strict=True))

    def look(self) -> bool:
        """At every 16th call make the starts that are missing; before each `put` by a mask.

        Returns whether it was time for that, so that the environments were elsewhere meanwhile.

        Raises:
            ValueError: they cannot be made ahead.
        """
        due = self._calls % LOOK_EVERY == 0
        self._calls += 1
        if due and not self._make_missing():
            raise ValueError("starts that cannot be made ahead are drawn by ids")
        return due

    def _make_missing(self) -> bool:
        missing = (~self._ready).nonzero()[:, 0]
        return self._make(missing) if len(missing) else True

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
        if [values.shape[1:] for values in made] != [values.shape[1:] for values in self._rows]:
            self._rows = [values.new_zeros(env.num_envs, *values.shape[1:]) for values in made]
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
        self._calls = 0
