"""What a policy sees: a task's observation groups, as they are measured and as they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rl_platform.envs import history, trial
from rl_platform.envs.cameras import Cameras
from rl_platform.envs.history import ObservationHistory
from rl_platform.envs.terms import bind

if TYPE_CHECKING:
    from rl_platform.envs.env import Env, Observations


class ObservationGroups:
    """Each group's terms side by side, with their scales, noise, delays and histories.

    Attributes:
        terms: group → name → (function, own settings, parameters).
        dims: group → columns that the policy sees.
        columns: of each group, what each column measured belongs to: "observation <group>/<term>".
        image_shapes: (height, width, 3) of each group of pictures; see `Cameras`.
    """

    def __init__(self, env: Env, state: Any) -> None:
        """Lay out the columns of each group of `env`, whose terms are tried on `state`.

        Raises:
            UserError: a term fails or has a wrong shape, or a camera cannot draw.
        """
        self._env = env
        self.terms: dict[str, dict[str, tuple]] = {}
        self.dims: dict[str, int] = {}
        self.columns: list[tuple[str, ...]] = []
        self._histories: dict[str, ObservationHistory] = {}
        self._scale: dict[str, torch.Tensor] = {}
        self._noise: dict[str, torch.Tensor] = {}
        for group, functions in env.task.observations.items():
            bound = bind("observations", functions, env.config.observations[group])
            sizes = trial.column_counts(group, bound, state, env.num_envs)
            names = [f"observation {group}/{name}" for name in bound]
            self.columns.append(tuple(n for n, size in zip(names, sizes, strict=True) for _ in range(size)))
            settings = [own for _, own, _ in bound.values()]
            self.terms[group], self.dims[group] = bound, sum(sizes)
            if history.wanted(settings):
                memory = ObservationHistory(env.random, env.num_envs, sizes, settings)
                self._histories[group], self.dims[group] = memory, memory.dim
            for key, columns, nothing in (("scale", self._scale, 1.0), ("noise", self._noise, 0.0)):
                values = [float(own[key]) for own in settings]
                if any(value != nothing for value in values):
                    each = [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
                    columns[group] = torch.tensor(each, device=env.device)
        self._cameras = Cameras(env, env.config.cameras) if env.config.cameras else None
        self.image_shapes = self._cameras.shapes if self._cameras else {}

    def measure(self, state: Any, env_ids: torch.Tensor) -> Observations:
        """The present columns of each group for some environments, scaled and with noise."""
        return {group: self._measure(group, state, env_ids) for group in self.terms}

    def _measure(self, group: str, state: Any, env_ids: torch.Tensor) -> torch.Tensor:
        terms, env = self.terms[group].values(), self._env
        columns = torch.cat([function(state, **parameters) for function, _, parameters in terms], dim=1)
        columns = columns.to(env.dtype)
        if len(env_ids) < env.num_envs:
            columns = columns[env_ids]
        if group in self._scale:
            columns = columns * self._scale[group]
        if group in self._noise:
            noise = env.random.normal(env.everyone(env_ids), columns.shape[1]).to(columns.dtype)
            columns = columns + self._noise[group] * noise
        return columns

    def show(self, which: torch.Tensor, measured: Observations, *, first: bool) -> Observations:
        """What the policy sees of what is `measured`: with delays and histories, and pictures beside it.

        `first` says that it is these environments' episodes' first observation; then `which` may be a mask.
        """
        obs = dict(measured)
        for group, memory in self._histories.items():
            take_in = memory.start if first else memory.add
            obs[group] = take_in(which, measured[group])
        return obs | self._cameras.observe(which) if self._cameras else obs

    def shown_columns(self, group: str) -> list[str]:
        """The term that each column of a group shows: "tool_pos", "tool_pos[t-2]"."""
        columns = dict(zip(self.terms, self.columns, strict=True))[group]
        names = [name.partition("/")[2] for name in columns]
        memory = self._histories.get(group)
        return names if memory is None else memory.column_names(names)

    def newest(self, obs: Observations) -> list[torch.Tensor]:
        """Each group's columns of this step, of what is shown: a NaN that is seen later is one already."""
        return [self._histories[g].newest if g in self._histories else obs[g] for g in self.terms]

    def raise_if_bad(self, state: Any) -> None:
        """Raise a `NonFiniteError` with the name of the first term that is not finite, and where."""
        for group, functions in self.terms.items():
            for name, (function, _, parameters) in functions.items():
                trial.raise_if_bad(f"observation {group}/{name}", function(state, **parameters))

    def state_dict(self) -> dict[str, Any]:
        """Return what the policy has still to see of earlier steps."""
        return {group: memory.state_dict() for group, memory in self._histories.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for group, memory in self._histories.items():
            memory.load_state_dict(state[group])

    def close(self) -> None:
        """Close the cameras."""
        if self._cameras:
            self._cameras.close()
