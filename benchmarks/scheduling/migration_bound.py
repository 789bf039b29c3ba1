"""What no rule can beat on the engines and programs of `benchmarks.scheduling.migration`, as they were measured."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from benchmarks.scheduling.bounds import shortest_first_ends
from benchmarks.scheduling.migration_lab import Ran


def least_mean_s(sticky: Sequence[Ran], alone_s: Sequence[float], engines: int) -> float:
    """A lower bound of the mean completion, of programs in the order they came, from a run in which each stayed on its
    engine. Nobody is quicker than alone, `alone_s`. And the engines together are no quicker than one so many times as
    fast that ends the least work first; a program's work is what its engine took for each of those it had, or less.

    The more programs decode beside each other, the less each takes: where the run had many on one engine, spread ones
    take more, and the bound is low.
    """
    assert len(sticky) == len(alone_s)
    each_s = _seconds_each(sticky)
    at = np.array([ran.arrives_s for ran in sticky])
    work = np.array([min(each_s[ran.engines[0]], alone) for ran, alone in zip(sticky, alone_s, strict=True)])
    shared = shortest_first_ends(at, work / engines)
    alone = sorted(ran.arrives_s + seconds for ran, seconds in zip(sticky, alone_s, strict=True))
    return fmean(map(max, shared, alone)) - fmean(at)


def _seconds_each(sticky: Sequence[Ran]) -> dict[str, float]:
    """Of each engine: the seconds from its first program's arrival to its last one's end, over their number."""
    number = Counter(ran.engines[0] for ran in sticky)
    began, ended = dict[str, float](), dict[str, float]()
    for ran in sticky:
        engine = ran.engines[0]
        began[engine] = min(began.get(engine, ran.arrives_s), ran.arrives_s)
        ended[engine] = max(ended.get(engine, 0.0), ran.arrives_s + ran.seconds)
    return {engine: (ended[engine] - began[engine]) / many for engine, many in number.items()}
