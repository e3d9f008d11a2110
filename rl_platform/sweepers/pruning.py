"""Which settings are hopeless before their training ends. Values here are the higher the better.

A curve is the evaluations of a setting so far: (share of the training done, value), in that order. Shares,
not steps: settings may differ in the steps of an iteration, and so in when they are evaluated.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Curve = Sequence[tuple[float, float]]
STEPS = 1000  # what is kept of a curve has its shares in whole steps: thousandths of the training
_SAME = 0.5 / STEPS + 1e-9  # shares closer than this are one: rounding moves each by up to half a step


def median_rule(mine: Curve, others: Sequence[Curve], *, startup: int, warmup: float) -> bool:
    """Whether the best value so far is below the median of the others' means up to this share.

    Golovin et al. (2017), section 3.2.2. Others that have not got this far do not count.

    Args:
        mine: the curve in question.
        others: those of the other settings, ended or not.
        startup: how many others must have got as far.
        warmup: share of the training before which nothing is pruned.
    """
    if not mine or mine[-1][0] < warmup - _SAME:
        return False
    share = mine[-1][0]
    means = [_mean_until(curve, share) for curve in others if curve and curve[-1][0] >= share - _SAME]
    if len(means) < startup:
        return False
    return max(value for _, value in mine) < statistics.median(means)


def asha_rule(
    mine: Curve, others: Sequence[Curve], *, startup: int, reduction_factor: int, min_fraction: float
) -> bool:
    """Whether the latest evaluation reached a rung and is not among the best 1/η of those that did.

    Asynchronous successive halving, Li et al. (2020), algorithm 2, in its variant that stops runs instead of
    promoting paused ones. Rungs are at shares η^-k; with one rung's few first arrivals the best one goes on.

    Args:
        mine: the curve in question.
        others: those of the other settings, ended or not.
        startup: how many others must have reached a rung before it stops anybody.
        reduction_factor: η.
        min_fraction: share of the training below which there is no rung.
    """
    before = mine[-2][0] if len(mine) > 1 else 0.0
    for rung in rungs(reduction_factor, min_fraction):
        if not (mine and before < rung - _SAME <= mine[-1][0]):
            continue
        arrived = [value for curve in others if (value := _at_rung(curve, rung)) is not None]
        if len(arrived) < startup:
            continue
        promoted = max(1, (len(arrived) + 1) // reduction_factor)
        if sum(value > mine[-1][1] for value in arrived) >= promoted:
            return True
    return False


def rungs(reduction_factor: int, min_fraction: float) -> list[float]:
    """Return the shares η^-k within [min_fraction, 1), ascending."""
    found, share = [], 1.0 / reduction_factor
    while share >= min_fraction - _SAME:
        found.append(share)
        share /= reduction_factor
    return found[::-1]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Average the curves of a setting's seeds, as far as all of them have got."""
    return [
        (statistics.fmean(share for share, _ in points), statistics.fmean(value for _, value in points))
        for points in zip(*curves, strict=False)
    ]


def _mean_until(curve: Curve, share: float) -> float:
    values = [value for at, value in curve if at <= share + _SAME]
    # Evaluated for the first time after this share: that is all there is to compare with.
    return statistics.fmean(values) if values else curve[0][1]


def _at_rung(curve: Curve, rung: float) -> float | None:
    """The first value at a rung or after it; None if the curve has not got there."""
    return next((value for at, value in curve if at >= rung - _SAME), None)
