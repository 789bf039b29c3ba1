"""A quantity that is not known, by three points of its distribution."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf

#: As how many observations a prior counts.
PRIOR_OBSERVATIONS = 4.0
_SHARES = (0.3, 0.4, 0.3)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """One in ten is below `p10`, half are below `p50`, nine in ten below `p90`."""

    p10: float
    p50: float
    p90: float

    def __post_init__(self) -> None:
        assert self.p10 <= self.p50 <= self.p90, self

    @classmethod
    def exactly(cls, known: float) -> "Quantiles":
        return cls(known, known, known)

    @classmethod
    def learnt(
        cls, prior: "Quantiles", seen: Sequence[float], most: float = inf, weight: float = PRIOR_OBSERVATIONS
    ) -> "Quantiles":
        """What is believed after `seen`; before, it is the prior, which weighs as much as `weight` observations.

        Nothing is believed to be above `most`.
        """
        points = zip((prior.p10, prior.p50, prior.p90), _SHARES, strict=True)
        weighed = sorted(chain(((value, 1.0) for value in seen), ((value, share * weight) for value, share in points)))
        return cls(*(min(most, _weighed_quantile(weighed, share)) for share in (0.1, 0.5, 0.9)))

    def at(self, share: float) -> float:
        """The quantile of `share`, straight between the three points, and no further out than they are."""
        if share <= 0.5:
            return self.p10 + (self.p50 - self.p10) * max(0.0, (share - 0.1) / 0.4)
        return self.p50 + (self.p90 - self.p50) * min(1.0, (share - 0.5) / 0.4)

    @property
    def mean(self) -> float:
        """Swanson's rule: 30, 40 and 30 % of the three points."""
        low, middle, high = _SHARES
        return low * self.p10 + middle * self.p50 + high * self.p90

    def map(self, rising: Callable[[float], float]) -> "Quantiles":
        """The quantiles of what a rising function makes of it."""
        return Quantiles(rising(self.p10), rising(self.p50), rising(self.p90))


def _weighed_quantile(weighed: Iterable[tuple[float, float]], share: float) -> float:
    """The least value up to which `share` of the whole weight lies."""
    points = list(weighed)
    left = share * sum(weight for _, weight in points)
    for value, weight in points:
        left -= weight
        if left <= 1e-12:
            return value
    return points[-1][0]


def length_prior(max_tokens: float) -> Quantiles:
    """How long an answer is before any was seen: an assumption, from an eighth of `max_tokens` up to all of it."""
    return Quantiles(max_tokens / 8, max_tokens / 2, max_tokens)


def tool_prior(timeout_s: float) -> Quantiles:
    """How long a tool takes before it was ever run: an assumption, from 10 ms over 100 ms up to a second."""
    return Quantiles(*(min(timeout_s, seconds) for seconds in (0.01, 0.1, 1.0)))
