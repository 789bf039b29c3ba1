"""How many calls programs make, and what that says about how many are left."""

from collections import deque

MOST_PROGRAMS = 512
MOST_CALLS = 1_000


class Turns:
    """The numbers of calls of the last programs that ended."""

    def __init__(self) -> None:
        self._counts: deque[int] = deque(maxlen=MOST_PROGRAMS)
        self._eta: float | None = None

    def ended(self, calls: int) -> None:
        """A program ended after `calls` calls."""
        self._counts.append(min(max(calls, 1), MOST_CALLS))
        self._eta = None

    def eta(self) -> float:
        """-Corr(calls made, calls left) over the calls of all ended programs (Continuum, arXiv 2511.02230, section 4):
        1 if all programs make as many calls, 0 if what was made says nothing."""
        if self._eta is None:
            self._eta = -_correlation([(k, calls - k) for calls in self._counts for k in range(1, calls + 1)])
        return self._eta


def _correlation(pairs: list[tuple[int, int]]) -> float:
    if not pairs:
        return -1.0
    count = len(pairs)
    x, y = sum(a for a, _ in pairs) / count, sum(b for _, b in pairs) / count
    xx, yy = sum((a - x) ** 2 for a, _ in pairs), sum((b - y) ** 2 for _, b in pairs)
    xy = sum((a - x) * (b - y) for a, b in pairs)
    return float(xy / (xx * yy) ** 0.5) if xx and yy else -1.0
