"""Observations that arrive late, and observations that show several steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from rl_platform import chosen
from rl_platform.envs.delays import range_problem, whole_numbers
from rl_platform.envs.randomness import EnvRandom


class ObservationHistory:
    """What a group's terms were in the last steps, as they were measured: scaled, and with their noise.

    A term with `history_steps: k` is k times as wide: its values of the last k steps, the oldest first. With
    `delay_steps: [low, high]` the newest of them is some steps old, as many as are drawn for the term at each
    episode's start. Steps before an episode's start look like its first one.

    Attributes:
        dim: columns of the group with its history.
        newest: the columns of this step, whatever their delay, `(num_envs, d)`.
    """

    def __init__(
        self, random: EnvRandom, num_envs: int, sizes: Sequence[int], settings: Sequence[Mapping[str, Any]]
    ) -> None:
        """Remember terms of these `sizes` (columns each) with these `settings`, in the group's order."""
        self._random = random
        self._delays = [own["delay_steps"] or [0, 0] for own in settings]
        lengths = [own["history_steps"] or 1 for own in settings]
        columns = torch.arange(sum(sizes)).split(list(sizes))
        # of each column that is returned: its term, its place in a step's columns, and its age in steps
        term, source, age = [], [], []
        for i, (own, length) in enumerate(zip(columns, lengths, strict=True)):
            source.append(own.repeat(length))
            age.append(torch.arange(length - 1, -1, -1).repeat_interleave(len(own)))
            term += [i] * (length * len(own))
        device = random.device
        self._term, self._source, self._age = (
            values.to(device) for values in (torch.tensor(term), torch.cat(source), torch.cat(age))
        )
        self.dim = len(term)
        depth = max(n + high for n, (_, high) in zip(lengths, self._delays, strict=True))
        self._frames = torch.zeros(depth, num_envs, sum(sizes), device=device)  # newest first
        self._lag = torch.zeros(num_envs, len(sizes), dtype=torch.int64, device=device)
        self._all_ids = torch.arange(num_envs, device=device)

    @property
    def newest(self) -> torch.Tensor:
        """See the class."""
        return self._frames[0]

    def column_names(self, names: Sequence[str]) -> list[str]:
        """Name each column, by the `names` of those of one step."""
        ages = zip(self._source.tolist(), self._age.tolist(), strict=True)
        return [f"{names[source]}[t-{age}]" if age else names[source] for source, age in ages]

    def start(self, which: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Begin episodes that start with `columns` (rows, d); return what the policy sees."""
        if columns.dtype != self._frames.dtype:
            self._frames = self._frames.to(columns.dtype)
        chosen.put(self._frames, which, columns.expand(len(self._frames), -1, -1), dim=1)
        chosen.put(self._lag, which, whole_numbers(self._random, which, self._delays))
        return self._read(self._all_ids if chosen.is_mask(which) else which)

    def add(self, env_ids: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Take in a step's `columns` of all environments; return what the policy sees, `(num_envs, dim)`."""
        self._frames.copy_(torch.cat([columns[None], self._frames[:-1]]))
        return self._read(env_ids)

    def _read(self, env_ids: torch.Tensor) -> torch.Tensor:
        steps_ago = self._age + self._lag[env_ids][:, self._term]
        return self._frames[steps_ago, env_ids[:, None], self._source]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the steps and the delays."""
        return {"frames": self._frames.clone(), "lag": self._lag.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self._frames = self._frames.to(state["frames"].dtype)
        self._frames.copy_(state["frames"])
        self._lag.copy_(state["lag"])


def wanted(settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some term of a group has a history or a delay."""
    return any(own["history_steps"] is not None or own["delay_steps"] is not None for own in settings)


def problems(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what is wrong with a term's history and delay."""
    steps, delay = settings.get("history_steps"), settings.get("delay_steps")
    if steps is not None and (type(steps) is not int or steps < 1):
        yield "history_steps", f"must be a whole number of control steps, at least 1, got {steps}"
    if delay is not None and (problem := range_problem(delay)):
        yield "delay_steps", problem
