"""What few runs of each setting allow to say (Agarwal et al. 2021, arXiv:2108.13264)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
SAMPLES = 5000  # of the bootstrap
ENOUGH = 3  # runs; the interval of two is the two
_TRIMMED = 0.25  # of each end


def interquartile_mean(values: Values) -> Values:
    """Mean of the middle half of the runs, which are the first axis: `(n, …)` to `(…)`.

    ⌊n/4⌋ runs are left out at each end, so that with less than four it is the mean.
    """
    cut = int(_TRIMMED * len(values))
    return np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)


def probability_of_improvement(ours: Values, theirs: Values) -> float:
    """P(X > Y) + ½ P(X = Y) for a run X of `ours` `(n,)` and a run Y of `theirs` `(m,)`."""
    difference = ours[:, None] - theirs[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def interval(
    statistic: Callable[..., Values | float], *samples: Values, draws: int = SAMPLES, seed: int = 0
) -> tuple[Values, Values] | None:
    """95 % interval of a statistic of runs by the percentile bootstrap: runs are drawn with replacement.

    Args:
        statistic: of as many samples, `(n, …)` each.
        samples: what was measured; runs are the first axis.
        draws: how often.
        seed: of the drawing: the same samples have the same interval.

    Returns:
        Its ends; None if some sample has too few runs to say something of the spread.
    """
    if any(len(sample) < ENOUGH for sample in samples):
        return None
    random = np.random.default_rng(seed)
    drawn = [
        statistic(*(sample[random.integers(len(sample), size=len(sample))] for sample in samples))
        for _ in range(draws)
    ]
    low, high = np.percentile(np.asarray(drawn, dtype=np.float64), (2.5, 97.5), axis=0)
    return low, high
