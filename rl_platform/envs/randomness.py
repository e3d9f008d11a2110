"""Random numbers for environments: one stream for each global environment index.

A draw is a hash of (seed, global environment index, how many numbers this environment has drawn), so
that results depend neither on how environments are spread over ranks nor on which of them reset
together, and the whole state is one counter for each environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from rl_platform import chosen

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift the 64 bits to the right, filling with zeros."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scramble 64-bit integers: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014, fig. 12)."""
    x = _shift_right(x, 30).bitwise_xor_(x).mul_(_MIX_1)
    x = _shift_right(x, 27).bitwise_xor_(x).mul_(_MIX_2)
    return _shift_right(x, 31).bitwise_xor_(x)


_AHEAD = 16  # numbers hashed at a time for environments that start together


def _low_and_high(ends: Sequence[float]) -> tuple[float, float]:
    if isinstance(ends, str) or len(ends) != 2 or not ends[0] <= ends[1]:
        raise ValueError(f"a range is [low, high], got {ends}")
    return ends[0], ends[1]


@cache  # for good: a CUDA graph knows where it is
def _low_and_width(ranges: tuple[tuple[float, float], ...], device: torch.device) -> torch.Tensor:
    """The ranges' lower ends and widths, `(2, len(ranges))` float64."""
    low, high = torch.tensor(ranges, dtype=torch.float64, device=device).unbind(1)
    return torch.stack([low, high - low])


class EnvRandom:
    """Independent random streams, one for each environment."""

    def __init__(
        self,
        num_envs: int,
        env_offset: int,
        device: torch.device,
        dtype: torch.dtype = torch.float64,
        *,
        stream: int = 0,
    ) -> None:
        """Make streams for the global environment indices `env_offset … env_offset + num_envs - 1`.

        Args:
            num_envs: how many.
            env_offset: of the first.
            device: of what is drawn.
            dtype: of `uniform_in` and `normal`, which go into the simulation.
            stream: another one has other numbers from the same seed.
        """
        self.device, self._dtype, self._stream = device, dtype, stream
        self._index = torch.arange(env_offset, env_offset + num_envs, device=device)
        self._key = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._drawn = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._steps = torch.arange(1, _AHEAD + 1, device=device)
        self._all = torch.arange(num_envs, device=device)
        # numbers hashed ahead for the environments that drew last, and how many of them are used
        self._ids: torch.Tensor | None = None
        self._ahead = torch.empty(0)
        self._used = 0

    def seed(self, seed: int) -> None:
        """Start every stream again, from `seed`."""
        self.settle()
        start = _mix(torch.tensor(seed, dtype=torch.int64, device=self._key.device) + _GOLDEN)
        start = start + self._stream * _MIX_2
        self._key.copy_(_mix(start + (self._index + 1) * _GOLDEN))
        self._drawn.zero_()

    @property
    def drawn(self) -> torch.Tensor:
        """How many numbers each stream has given, `(num_envs,)` int64, live."""
        self.settle()
        return self._drawn

    def uniform(self, env_ids: torch.Tensor, size: int) -> torch.Tensor:
        """Draw from [0, 1); `(len(env_ids), size)` float64. A mask (`chosen.py`) moves only its streams."""
        if chosen.is_mask(env_ids):
            self.settle()
            numbers = self._hash(self._all, size)
            self._drawn += size * env_ids
            return numbers
        if env_ids is not self._ids or self._used + size > self._ahead.shape[1]:
            self.settle()
            self._ahead = self._hash(env_ids, max(size, _AHEAD))
            self._ids = env_ids
        begin, self._used = self._used, self._used + size
        return self._ahead[:, begin : self._used]

    def _hash(self, env_ids: torch.Tensor, size: int) -> torch.Tensor:
        """The next `size` numbers of some streams."""
        steps = self._steps if size == _AHEAD else torch.arange(1, size + 1, device=self._key.device)
        bits = _mix(self._key[env_ids, None] + (self._drawn[env_ids, None] + steps) * _GOLDEN)
        return _shift_right(bits, 11).to(torch.float64).mul_(2.0**-53)

    def settle(self) -> None:
        """Count what was used of the numbers ahead, and forget the others."""
        if self._ids is not None:
            self._drawn[self._ids] += self._used
        self._ids, self._used = None, 0

    def uniform_in(self, env_ids: torch.Tensor, ranges: list[list[float]]) -> torch.Tensor:
        """Draw one number from each of the `ranges` [low, high); `(len(env_ids), len(ranges))`."""
        low, width = _low_and_width(tuple(map(_low_and_high, ranges)), self._key.device)
        return torch.addcmul(low, width, self.uniform(env_ids, len(ranges))).to(self._dtype)

    def normal(self, env_ids: torch.Tensor, size: int) -> torch.Tensor:
        """Draw from the standard normal distribution; `(len(env_ids), size)`."""
        # never 0 or 1, whose quantiles are infinite
        quantiles = self.uniform(env_ids, size).clamp(2.0**-54, 1.0 - 2.0**-53)
        return torch.special.ndtri(quantiles).to(self._dtype)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the streams' positions."""
        self.settle()
        return {"key": self._key.clone(), "drawn": self._drawn.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`."""
        self.settle()
        self._key.copy_(state["key"])
        self._drawn.copy_(state["drawn"])
