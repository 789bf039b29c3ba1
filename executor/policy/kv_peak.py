"""How much KV the calls of an engine take at the worst moment to come, if each ends when it is expected to."""

from collections.abc import Iterable
from typing import NamedTuple


class Holding(NamedTuple):
    """A call has so many tokens of KV of its own now, and is expected to write so many more; then it gives all back."""

    tokens: float
    left: float


def peak_tokens(calls: Iterable[Holding]) -> float:
    """All write at one pace, so who has least left gives back first: the peak is at one of these instants (Past-Future
    scheduler, arXiv 2507.10150, section 4). At most what all hold together at their ends."""
    held, peak = 0.0, 0.0
    for number, call in enumerate(sorted(calls, key=lambda one: -one.left), start=1):
        held += call.tokens
        peak = max(peak, held + number * call.left)
    return peak
