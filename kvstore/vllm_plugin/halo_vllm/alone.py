"""Calls that stand alone: while nobody names a program and no prompt goes on from an earlier one, this is all that is
noted of them. Most traffic has no programs, and pays for no more than a look whether one has begun.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

MOST_ENDED = 65_536


@dataclass(slots=True, eq=False)
class Begun:
    """A call in flight. `sequence`: its place in program order, should there be one. `ready_s`: since when it waits for
    its turn; None while it runs. `ran`: it has run before."""

    sequence: int
    asked_s: float
    ready_s: float | None
    ran: bool = False


class Ended(NamedTuple):
    """A call that ended: what its program is, should another go on from it."""

    call: str
    sequence: int
    tenant: str
    blocks: int
    ended_s: float


class Alone:
    """The calls that nobody goes on from, those that ended bounded."""

    def __init__(self, most_ended: int = MOST_ENDED) -> None:
        self._begun: dict[str, Begun] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()
        self._most = most_ended

    def begins(self, call_id: str, sequence: int, now_s: float) -> None:
        self._begun[call_id] = Begun(sequence, now_s, now_s)

    def starts(self, call_id: str, now_s: float) -> float | None:
        """How long ago it might have run, where it runs for the first time; None for one that nobody knows."""
        begun = self._begun.get(call_id)
        if begun is None:
            return None
        ran, begun.ran, begun.ready_s = begun.ran, True, None
        return None if ran else now_s - begun.asked_s

    def waits(self, call_id: str, now_s: float) -> None:
        """It lost its blocks, and waits for its turn again."""
        if begun := self._begun.get(call_id):
            begun.ready_s = now_s

    def leaves(self, call_id: str) -> Begun | None:
        return self._begun.pop(call_id, None)

    def ends(self, ended: Ended) -> None:
        self._ended[ended.call] = ended
        if len(self._ended) > self._most:
            self._ended.popitem(last=False)

    def returns(self, call_id: str) -> Ended | None:
        """A call goes on from this one."""
        return self._ended.pop(call_id, None)

    def last_ended(self, most: int) -> Iterator[Ended]:
        """So many at most, the one that ended first first."""
        return islice(self._ended.values(), max(len(self._ended) - most, 0), None)
