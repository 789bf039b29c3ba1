"""How far an engine is from what is believed of it, learnt from the calls it finishes."""

from dataclasses import dataclass
from math import exp, log

#: Of a new call on what is believed, once there were many; the first calls weigh more.
SHARE_OF_ONE = 0.05
#: An engine is never believed to be further off than by this factor: a wild figure must not take it out of use.
FURTHEST = 4.0


@dataclass(frozen=True, slots=True)
class Correction:
    """`factor` is how many times as long as predicted calls last, a moving geometric mean; `error` the moving mean of
    how far a prediction corrected by it was off, relatively, before the call was learnt from. Both over `calls`."""

    factor: float = 1.0
    error: float = 0.0
    calls: int = 0

    def after(self, predicted_s: float, actual_s: float) -> "Correction":
        """One call more; both are above 0."""
        share = max(SHARE_OF_ONE, 1 / (self.calls + 1))
        ratio = min(FURTHEST, max(1 / FURTHEST, actual_s / predicted_s))
        off = abs(self.factor * predicted_s / actual_s - 1)
        return Correction(
            exp((1 - share) * log(self.factor) + share * log(ratio)),
            (1 - share) * self.error + share * min(off, FURTHEST),
            self.calls + 1,
        )
