"""The pruning rules, by hand."""

from __future__ import annotations

import pytest

from rl_platform.sweepers.pruning import Curve, asha_rule, mean_curve, median_rule, rungs

GOOD: Curve = [(0.25, 1.0), (0.5, 3.0), (0.75, 5.0), (1.0, 7.0)]
FAIR: Curve = [(0.25, 1.0), (0.5, 1.0), (0.75, 1.0)]
POOR: Curve = [(0.25, 0.0), (0.5, 0.5)]


def median(mine: Curve, others: list[Curve], startup: int = 3) -> bool:
    return median_rule(mine, others, startup=startup, warmup=0.3)


def test_the_median_rule_compares_with_the_others_means() -> None:
    """At half the training the others' means are 2, 1 and 0.25; the median is 1."""
    others: list[Curve] = [GOOD, FAIR, POOR]
    assert median([(0.5, 0.9)], others)
    assert not median([(0.5, 1.0)], others)
    assert not median([(0.25, 1.1), (0.5, 0.0)], others)  # its best counts, not its latest


def test_the_median_rule_waits() -> None:
    assert not median([(0.25, -9.0)], [GOOD, FAIR, POOR])  # warming up
    assert not median([], [GOOD, FAIR, POOR])
    assert not median([(0.75, -9.0)], [GOOD, FAIR, POOR])  # only two others have got there
    assert median([(0.75, -9.0)], [GOOD, FAIR, POOR], startup=2)


def test_the_median_rule_compares_at_equal_shares() -> None:
    """Evaluated at other times than this one: what they had by then counts."""
    others: list[Curve] = [[(0.4, 2.0), (0.8, 100.0)]] * 3
    assert median([(0.6, 1.0)], others)
    assert not median([(0.6, 3.0)], others)
    assert not median([(0.3, 150.0)], others)  # before their first evaluation: they have nothing less


@pytest.mark.parametrize(
    ("factor", "lowest", "expected"),
    [(3, 0.1, [1 / 9, 1 / 3]), (2, 0.25, [0.25, 0.5]), (4, 0.5, []), (4, 0.25, [0.25])],
)
def test_rungs(factor: int, lowest: float, expected: list[float]) -> None:
    assert rungs(factor, lowest) == pytest.approx(expected)


def asha(mine: Curve, values: list[float], at: float = 1 / 3, startup: int = 2) -> bool:
    others: list[Curve] = [[(at, value)] for value in values]
    return asha_rule(mine, others, startup=startup, reduction_factor=3, min_fraction=0.3)


def test_asha_lets_a_third_pass_a_rung() -> None:
    five = [1.0, 2.0, 3.0, 4.0, 5.0]  # with this one six, of which two pass
    assert not asha([(1 / 3, 5.5)], five)
    assert not asha([(1 / 3, 4.5)], five)
    assert asha([(1 / 3, 3.5)], five)
    assert not asha([(0.5, 4.5)], five)  # jumped over the rung


def test_asha_of_few_lets_the_best_pass() -> None:
    assert not asha([(1 / 3, 3.0)], [1.0, 2.0])
    assert asha([(1 / 3, 1.5)], [1.0, 2.0])
    assert not asha([(1 / 3, 1.5)], [2.0])  # too few to tell


def test_asha_looks_at_a_rung_once() -> None:
    assert not asha([(1 / 3, 9.0), (0.6, 0.0)], [1.0, 2.0])
    assert not asha([(0.2, 0.0)], [1.0, 2.0])
    assert not asha([(1 / 3, 0.0)], [1.0, 2.0], at=0.2)  # the others are not there yet


def test_the_curve_of_a_setting_is_the_mean_of_its_seeds_as_far_as_all_have_got() -> None:
    curves = [[(0.1, 1.0), (0.2, 2.0)], [(0.1, 3.0), (0.2, 4.0), (0.3, 5.0)]]
    assert mean_curve(curves) == [(0.1, 2.0), (0.2, 3.0)]
    assert mean_curve([[(0.1, 1.0)], []]) == []
