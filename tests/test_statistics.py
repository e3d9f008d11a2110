from __future__ import annotations

import numpy as np
import pytest

from rl_platform.statistics import interquartile_mean, interval, probability_of_improvement


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # nothing to leave out
        ([9.0, 1.0, 2.0, 3.0], 2.5),
        ([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0], 3.0),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 90.0, 90.0], 2.5),
    ],
)
def test_the_outer_quarters_are_left_out(values: list[float], mean: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(mean)
    curves = np.array(values)[:, None] * np.array([1.0, 2.0])
    np.testing.assert_allclose(interquartile_mean(curves), [mean, 2.0 * mean])


def test_how_likely_one_is_better() -> None:
    assert probability_of_improvement(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert probability_of_improvement(np.array([1.0, 4.0]), np.array([2.0, 3.0])) == 0.5
    assert probability_of_improvement(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert probability_of_improvement(np.array([1.0, 2.0, 3.0]), np.array([2.0])) == 0.5
    assert probability_of_improvement(np.array([0.0, 2.0, 3.0]), np.array([2.0, 5.0])) == pytest.approx(0.25)


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        ends = interval(np.mean, random.normal(5.0, 2.0, 30), draws=300)
        assert ends is not None
        covered += bool(ends[0] <= 5.0 <= ends[1])
    assert 0.88 <= covered / 200 <= 0.99  # the percentile bootstrap is a little too narrow


def test_an_interval_is_the_same_again_and_needs_three_runs() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    first, again = (interval(interquartile_mean, values, draws=200) for _ in range(2))
    assert first is not None
    assert first == again
    assert 1.0 <= first[0] < interquartile_mean(values) < first[1] <= 16.0
    assert interval(interquartile_mean, np.array([3.0, 4.0])) is None
    assert interval(probability_of_improvement, values, np.array([3.0, 4.0])) is None
    assert interval(interquartile_mean, np.ones((4, 3))) is not None
