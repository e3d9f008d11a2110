"""Hydra's sweep syntax in Optuna's words."""

from __future__ import annotations

import pytest

from rl_platform.errors import UserError

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")

from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: E402
from optuna.distributions import (  # noqa: E402
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rl_platform.sweepers.space import Space, distribution, shown  # noqa: E402


def space(*texts: str) -> Space:
    return Space.of(OverridesParser.create().parse_overrides(list(texts)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(1,10)", FloatDistribution(1.0, 10.0)),
        ("int(interval(1,10))", IntDistribution(1, 10)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("tag(log,int(interval(8,512)))", IntDistribution(8, 512, log=True)),
        ("range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("range(10,1,-3)", IntDistribution(4, 10, step=3)),
        ("range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("1,2,x", CategoricalDistribution(["1", "2", "x"])),
        ("choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
        ("'x y',null,x", CategoricalDistribution(["'x y'", "null", "x"])),
    ],
)
def test_values_are_translated(text: str, expected: BaseDistribution) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"a.b={text}"])
    assert distribution(override) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=interval(2,1)", "the first end must be below the second"),
        ("a=tag(log,interval(0,1))", "both ends must be above 0, got 0"),
        ("a=tag(log,range(1,10))", "a range has even steps"),
        ("seed=interval(1,9)", "write them out"),
        ("seed=1,2", "has nothing to search"),
        ("a=1", "has nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        space(text)


def test_seeds_are_repetitions() -> None:
    found = space("env=lift", "seed=1,2,3", "+algo.x=0.1,0.2", "a=interval(0,1)")
    assert found.seeds == ["1", "2", "3"]
    assert set(found.distributions) == {"+algo.x", "a"}


def test_the_corners_have_every_choice_and_both_ends() -> None:
    assert list(space("a=x,y,z", "b=interval(0,0.5)").corners()) == [
        {"a": "x", "b": "0.0"},
        {"a": "y", "b": "0.0"},
        {"a": "z", "b": "0.0"},
        {"a": "x", "b": "0.5"},
    ]


def test_numbers_are_shown_as_they_are_run() -> None:
    assert shown(0.000316227766) == "0.000316228"
    assert shown(1e-5) == "1e-05"
    assert shown(0.1 + 0.2) == "0.3"
    assert shown(64) == "64"
    assert shown("[1,2]") == "[1,2]"
