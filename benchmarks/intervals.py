"""Intervals of what few rounds measured."""

from collections.abc import Callable, Sequence
from math import comb
from random import Random

#: What the interval of a median must cover at least; five rounds can promise no more than 93.75 %.
COVERAGE = 0.93
RESAMPLES = 2000


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that covers the median with `COVERAGE`; else the range."""
    ordered, count = sorted(values), len(values)
    outside, cut = 0.0, 0
    while cut < count // 2:
        outside += 2 * comb(count, cut) / 2**count
        if 1 - outside < COVERAGE:
            break
        cut += 1
    cut = max(0, cut - 1)
    return ordered[cut], ordered[count - 1 - cut]


def resampled_interval(figure: Callable[[Random], float]) -> tuple[float, float]:
    """95 % of what `figure` comes to with rows drawn again by the generator it is given (bootstrap, seeded)."""
    draw = Random(0)
    figures = sorted(figure(draw) for _ in range(RESAMPLES))
    return figures[int(0.025 * RESAMPLES)], figures[int(0.975 * RESAMPLES) - 1]


def ratio_interval(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """What the first of each pair is to the second, of their sums, and the bootstrapped 95 % of it over the pairs.

    With a single pair, the interval is that ratio.
    """
    assert pairs, "no pair"
    low, high = resampled_interval(lambda draw: _ratio(draw.choices(pairs, k=len(pairs))))
    return _ratio(pairs), low, high


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(one for one, _ in pairs) / sum(other for _, other in pairs)
