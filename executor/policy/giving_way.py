"""Which call inside an engine leaves it for another: for one that somebody waits for, or since the engine is slow.

A call that leaves has its answer made anew elsewhere: what was written of it is lost. So it is the youngest that
leaves, no call does so often, and only for what is worth it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from executor.slo import SloClass
from planner.ir.ids import EngineId

#: A call that left so often stays where it is.
MOST_SENT_BACK = 2
#: An engine is slow where calls last so many times as long as predicted, relative to the median engine.
SLOW = 2.0
_GIVES_WAY = (SloClass.BATCH, SloClass.BACKGROUND)


@dataclass(frozen=True, slots=True)
class Inside:
    """A call inside an engine since `sent_s`, that left others `sent_back` times. A suspect or an agent's turn may not
    leave."""

    engine: EngineId
    slo: SloClass
    sent_s: float
    sent_back: int = 0
    may_leave: bool = True


def who_gives_way(asking: SloClass, inside: Sequence[Inside], engines: Collection[EngineId]) -> int | None:
    """The index of the call that leaves one of the engines for one that asks: only for an interactive one, only of a
    batch or of background work, the least urgent class first and of it the youngest."""
    if asking is not SloClass.INTERACTIVE:
        return None
    leaving = [
        (call.slo.rank, call.sent_s, index)
        for index, call in enumerate(inside)
        if call.slo in _GIVES_WAY and call.may_leave and call.sent_back < MOST_SENT_BACK and call.engine in engines
    ]
    return max(leaving)[2] if leaving else None


def slower(slowness: Mapping[EngineId, float]) -> dict[EngineId, float]:
    """How many times as slow as the median engine those are that are slow; 1 for all others."""
    usual = median(slowness.values())
    return {engine: one / usual if is_slow(one, usual) else 1.0 for engine, one in slowness.items()}


def is_slow(slowness: float, usual: float) -> bool:
    return slowness >= SLOW * usual
