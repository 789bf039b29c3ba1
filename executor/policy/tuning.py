"""Which setting of the scheduler's knobs to run with: candidates, a paired comparison, and the decision.

A candidate is tried on the same samples of the window as the setting in force: each leaves out a part of its programs.
Differences of logarithms of what both cost on one sample are paired, so that what one sample has more of than another
falls out. How they vary tells how the estimate of the whole window does (delete-d jackknife; Shao and Wu 1989), which
gives their interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, pi, sqrt, tan
from statistics import NormalDist, fmean, stdev

#: A setting: a value for each knob by its name, in order of the names.
Setting = tuple[tuple[str, float], ...]

#: Samples leave out so much of the programs: enough to differ, and little enough for backlogs to build up as they did.
LEFT_OUT = 0.25
#: A program that misses its deadline costs as much as so many that last as long and have none.
MISS_COSTS = 4.0


@dataclass(frozen=True, slots=True)
class Knob:
    """A value that may be one of `ladder`, in ascending order."""

    name: str
    ladder: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a candidate costs of what the setting in force costs: the estimate, and its interval."""

    ratio: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, slots=True)
class Guard:
    """A change is made where the interval, of `confidence`, lies below 1 by more than `least_gain`; it is taken back
    where reality costs more than `tolerance` times what the simulation says of it, against what it did before. Knobs
    named in `most` are not turned above their values there: a bound that somebody set is one."""

    confidence: float = 0.95
    least_gain: float = 0.02
    tolerance: float = 1.25
    most: Setting = ()


def cost_of(seconds: Sequence[float], missed: int) -> float:
    """What the programs of a sample cost: their mean seconds, and more for those that missed their deadlines.

    Programs of one batch count as long as the whole of it: it is done when its last program is.
    """
    assert seconds, "a sample without programs costs nothing"
    return fmean(seconds) * (1 + MISS_COSTS * missed / len(seconds))


def bounded(knob: Knob, most: Setting) -> Knob:
    """The knob with no step above what is named for it, and with that as its last."""
    bound = dict(most).get(knob.name)
    if bound is None:
        return knob
    return Knob(knob.name, (*(step for step in knob.ladder if step < bound), bound))


def turned(current: Setting, knob: Knob) -> Sequence[Setting]:
    """The settings that differ from the current one by this knob alone. All of its ladder, for it may have to be turned
    far before anything changes."""
    value = dict(current)[knob.name]
    return [changed(current, {knob.name: step}) for step in knob.ladder if step != value]


def changed(setting: Setting, values: Mapping[str, float]) -> Setting:
    return tuple(sorted({**dict(setting), **values}.items()))


def joined(current: Setting, candidates: Sequence[Setting]) -> Setting:
    """All the steps of the candidates at once, each knob's from the first candidate that changes it."""
    steps: dict[str, float] = {}
    for candidate in candidates:
        for name, value in set(candidate) - set(current):
            steps.setdefault(name, value)
    return changed(current, steps)


def compare(current: Sequence[float], candidate: Sequence[float], confidence: float = 0.95) -> Comparison:
    """Costs on the same samples, in the same order; at least two, or nothing is known of the noise."""
    assert len(current) == len(candidate) >= 2, "costs are compared in pairs"
    logs = [log(other / one) for one, other in zip(current, candidate, strict=True)]
    mean, half = fmean(logs), student(confidence, len(logs) - 1) * _spread(logs)
    return Comparison(exp(mean), exp(mean - half), exp(mean + half), len(logs))


def is_better(found: Comparison, guard: Guard) -> bool:
    """Better by more than the noise."""
    return found.high < 1 - guard.least_gain


def is_worse_than_told(before: float, after: float, guard: Guard) -> bool:
    """Reality over simulation, before the change and after it: the simulation promised what did not come."""
    return after > guard.tolerance * before


def student(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's distribution, to a percent from 3 degrees of freedom on (Cornish-Fisher; Hill
    1970), exactly for fewer than 3."""
    tail = (1 + confidence) / 2
    if freedom == 1:
        return tan(pi * confidence / 2)
    if freedom == 2:
        share = 4 * tail * (1 - tail)
        return (2 * tail - 1) * sqrt(2 / share)
    z = NormalDist().inv_cdf(tail)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4


def _spread(logs: Sequence[float]) -> float:
    """The standard error of the estimate. Samples overlap: it does not shrink with their number."""
    return stdev(logs) * sqrt((1 - LEFT_OUT) / LEFT_OUT)
