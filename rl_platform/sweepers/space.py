"""What a command line lets a sweep vary, in Optuna's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rl_platform.errors import UserError

SEED = "seed"  # its values are repetitions of a setting, not settings
_DIGITS = 6  # of a number with decimals: what is shown is what was run


@dataclass(frozen=True)
class Space:
    """The keys to search, each with its values.

    Attributes:
        distributions: key, as in an override, → what may be drawn for it.
        seeds: values of the key seed, as text; every setting is run with each of them. Empty if the
            command line has one seed, or none.
    """

    distributions: dict[str, BaseDistribution]
    seeds: list[str]

    @classmethod
    def of(cls, overrides: Sequence[Override]) -> Space:
        """Read the overrides that have several values; the others do not matter here.

        Raises:
            UserError: values that cannot be searched, or nothing to search.
        """
        varying = {o.get_key_element(): o for o in overrides if o.is_sweep_override()}
        seeds = varying.pop(SEED, None)
        if seeds is not None and not seeds.is_discrete_sweep():
            raise UserError("seed: is run with each of its values; write them out, such as seed=1,2,3")
        if not varying:
            raise UserError(
                "sweeper=optuna has nothing to search: give a key several values, such as "
                "algo.gamma=0.98,0.99 or 'algo.learning_rate=tag(log,interval(1e-4,1e-2))' or "
                "'env.num_envs=range(64,513,64)'."
            )
        texts = [] if seeds is None else list(seeds.sweep_string_iterator())
        return cls({key: distribution(override) for key, override in varying.items()}, texts)

    def corners(self) -> Iterator[dict[str, str]]:
        """Yield settings with every choice and both ends of every interval in them, to be checked first."""
        extremes = {key: _extremes(d) for key, d in self.distributions.items()}
        first = {key: values[0] for key, values in extremes.items()}
        yield first
        for key, values in extremes.items():
            for value in values[1:]:
                yield first | {key: value}


def distribution(override: Override) -> BaseDistribution:
    """Translate one key's values.

    `interval(a,b)` is a float from a to b, `int(interval(a,b))` a whole number; `tag(log,…)` draws
    its logarithm evenly. `range(a,b,step)` is a grid without b itself, as in Hydra; everything else
    is a choice.

    Raises:
        UserError: the ends are in the wrong order, a logarithm of what is not above 0, or a glob.
    """
    sweep: Any = override.value()
    text = str(override.input_line)
    try:
        if isinstance(sweep, IntervalSweep):
            return _interval(sweep)
        if isinstance(sweep, RangeSweep) and not sweep.shuffle:
            return _range(sweep)
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except UserError as error:
        raise UserError(f"{text}: {error}") from error
    except Exception as error:  # Hydra's and Optuna's own words on what cannot be
        raise UserError(f"{text}: {str(error).splitlines()[0]}") from error


def shown(value: Any) -> str:
    """The value as one would type it."""
    if isinstance(value, float):
        return repr(float(f"{value:.{_DIGITS}g}"))
    return str(value)


def _extremes(distribution: BaseDistribution) -> list[str]:
    if isinstance(distribution, CategoricalDistribution):
        return [shown(choice) for choice in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [shown(distribution.low), shown(distribution.high)]


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    log = "log" in sweep.tags
    _check_ends(low, high, log)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(sweep: RangeSweep) -> BaseDistribution:
    values = list(sweep.range())
    if not values:
        raise UserError("is an empty range")
    if "log" in sweep.tags:
        raise UserError("a range has even steps; write tag(log,interval(…)) or tag(log,int(interval(…)))")
    low, high = min(values), max(values)
    assert sweep.step is not None
    step = abs(sweep.step)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(float(low), float(high), step=float(step))


def _check_ends(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise UserError(f"the first end must be below the second, got {low} and {high}")
    if log and low <= 0:
        raise UserError(f"with tag(log,…) both ends must be above 0, got {low}")
