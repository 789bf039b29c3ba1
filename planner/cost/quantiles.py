"""A quantity that is not known, by three points of its distribution."""

from collections.abc import Callable
from dataclasses import dataclass


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

    @property
    def mean(self) -> float:
        """Swanson's rule: 30, 40 and 30 % of the three points."""
        return 0.3 * self.p10 + 0.4 * self.p50 + 0.3 * self.p90

    def map(self, rising: Callable[[float], float]) -> "Quantiles":
        """The quantiles of what a rising function makes of it."""
        return Quantiles(rising(self.p10), rising(self.p50), rising(self.p90))


def length_prior(max_tokens: float) -> Quantiles:
    """How long an answer is before any was seen: an assumption, from an eighth of `max_tokens` up to all of it."""
    return Quantiles(max_tokens / 8, max_tokens / 2, max_tokens)
