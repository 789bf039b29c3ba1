"""How predictions of programs' ends came out: what is usual, and how far off they are."""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from math import sqrt

#: By so many programs that ended last. With more, what is believed lags behind; with fewer it sways with the load of
#: one moment, and who is taken by it sways with it.
MOST_SEEN = 256
#: Nobody is believed to last longer than so many times what was predicted, or less than that part of it.
FURTHEST = 4.0
#: Of programs, so large a share does not last longer than at most, nor less than at least.
SURE = 0.95


@dataclass(slots=True)
class _Window:
    """The last `MOST_SEEN` figures."""

    _seen: deque[float] = field(default_factory=deque)
    _in_order: list[float] = field(default_factory=list)

    def add(self, figure: float) -> None:
        self._seen.append(figure)
        insort(self._in_order, figure)
        if len(self._seen) > MOST_SEEN:
            del self._in_order[bisect_left(self._in_order, self._seen.popleft())]

    def at(self, share: float) -> float:
        """The figure that so large a share of them does not exceed."""
        return self._in_order[min(int(share * len(self._in_order)), len(self._in_order) - 1)]


@dataclass(slots=True)
class Foresight:
    """Predictions are off by a factor that is `usual`, and beside it by chance. What many programs take together errs
    by the root of their number: errors are counted in geometric means of what was told and of what the program takes
    if it waits for nobody. Between `early` and `late` such means are nearly all."""

    usual: float = 1.0
    early: float = 0.0
    late: float = 0.0
    _ratios: _Window = field(default_factory=_Window)
    _errors: _Window = field(default_factory=_Window)

    def at_most_s(self, done_s: float, took_s: float) -> float:
        """Of programs that should be done in `done_s`, and take `took_s` if they wait for nobody, nearly all are."""
        return done_s + self.late * sqrt(done_s * took_s)

    def at_least_s(self, done_s: float, took_s: float) -> float:
        """Nearly none of them is done sooner."""
        return done_s + self.early * sqrt(done_s * took_s)

    def learn(self, predicted_s: float, told_s: float, took_s: float, lasted_s: float) -> None:
        """It was predicted so, and told as corrected by what was usual then. All are above 0."""
        ratio = min(FURTHEST, max(1 / FURTHEST, lasted_s / predicted_s))
        self._ratios.add(ratio)
        self._errors.add((ratio * predicted_s - told_s) / sqrt(told_s * took_s))
        self.usual = self._ratios.at(0.5)
        self.early, self.late = min(0.0, self._errors.at(1 - SURE)), max(0.0, self._errors.at(SURE))
