"""How long pauses last, learnt from those that ended and those that have not."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

SHORTEST_HOLD_S = 1e-3


@dataclass(frozen=True, slots=True)
class Survival:
    """`times_s` ascending, the ages at which pauses ended; `returned[i]`: the share ended by then; `held_s[i]`:
    E[min(pause, times_s[i])], the seconds held if let go at that age. What is left after the last never ends.

    Pauses that still run, or whose program never came back, are censored at their age (Kaplan and Meier 1958).
    """

    times_s: tuple[float, ...]
    returned: tuple[float, ...]
    held_s: tuple[float, ...]
    onward: tuple[int, ...]

    def returned_by(self, age_s: float) -> float:
        """The share of pauses that ended at or before `age_s`."""
        at = bisect_right(self.times_s, age_s)
        return self.returned[at - 1] if at else 0.0

    def held_until(self, age_s: float) -> float:
        """E[min(pause, age_s)]."""
        at = bisect_right(self.times_s, age_s)
        if not at:
            return age_s
        return self.held_s[at - 1] + (age_s - self.times_s[at - 1]) * (1.0 - self.returned[at - 1])

    def index(self, age_s: float) -> float:
        """Returns per second of holding, at best, of a pause that has lasted `age_s`: the greatest
        P(back by t) / E[seconds held until t], over all t. It is the hazard where that falls, and looks across a gap
        between two modes where it does not (Gittins index; Aalto, Ayesta and Righter 2009, section 3)."""
        at = bisect_right(self.times_s, age_s)
        if at == len(self.times_s):
            return 0.0
        back, held = self.returned_by(age_s), self.held_until(age_s)
        best = self._slope(at, back, held)
        while (at := self.onward[at]) < len(self.times_s) and (slope := self._slope(at, back, held)) > best:
            best = slope
        return best

    def _slope(self, at: int, back: float, held: float) -> float:
        return (self.returned[at] - back) / max(self.held_s[at] - held, SHORTEST_HOLD_S)


def survival(pauses: Iterable[tuple[float, bool]]) -> Survival:
    """Of pauses as (seconds, ended): not ended means it lasted at least so long."""
    ordered = sorted(pauses)
    at_risk, alive = len(ordered), 1.0
    steps: list[tuple[float, float]] = []
    for age_s, same in groupby(ordered, key=lambda pause: pause[0]):
        ended = [done for _, done in same]
        if any(ended):
            alive *= 1.0 - sum(ended) / at_risk
            steps.append((age_s, 1.0 - alive))
        at_risk -= len(ended)
    return _of_steps(steps)


def blend(law: Survival, pauses: int, prior: Survival, weight: int) -> Survival:
    """`law`, learnt from few pauses, drawn towards `prior` as if `weight` pauses of that had been seen too."""
    times = sorted({*law.times_s, *prior.times_s})
    share = pauses / (pauses + weight)
    return _of_steps([(t, share * law.returned_by(t) + (1.0 - share) * prior.returned_by(t)) for t in times])


def slowest(parts: Sequence[Survival]) -> Survival:
    """Of tools that run side by side, all of which must end: the law of the longest, if they are independent."""
    assert parts
    times = sorted({time for part in parts for time in part.times_s})
    steps: list[tuple[float, float]] = []
    for time in times:
        back = 1.0
        for part in parts:
            back *= part.returned_by(time)
        if back > (steps[-1][1] if steps else 0.0):
            steps.append((time, back))
    return _of_steps(steps)


def _of_steps(steps: Sequence[tuple[float, float]]) -> Survival:
    held, then, alive = [], 0.0, 1.0
    so_far = 0.0
    for time, back in steps:
        so_far += (time - then) * alive
        held.append(so_far)
        then, alive = time, 1.0 - back
    times, returned = tuple(t for t, _ in steps), tuple(b for _, b in steps)
    return Survival(times, returned, tuple(held), _hull(returned, held))


def _hull(returned: Sequence[float], held: Sequence[float]) -> tuple[int, ...]:
    """For each age the next corner of the upper hull of what follows: the only ages at which an index can be best."""
    end = len(returned)
    onward = [end] * end

    def slope(low: int, high: int) -> float:
        width = held[high] - held[low]
        return (returned[high] - returned[low]) / width if width > 0 else inf

    for at in reversed(range(end - 1)):
        corner = at + 1
        while onward[corner] < end and slope(at, onward[corner]) >= slope(at, corner):
            corner = onward[corner]
        onward[at] = corner
    return tuple(onward)
