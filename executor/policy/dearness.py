"""Which engine may take a call that waits for any: where it is nearly cheapest by what engines are worth to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True)
class Margin:
    """How much dearer than where it is cheapest a call may be on an engine that takes it.

    By `least`, in the order of the line. An engine that finds nothing so cheap, though it has room, takes what is least
    dear of what waits, up to `most` while a backlog lasts: prices are right only if no engine stands idle. `most` is
    reached where `backlog` calls wait for each engine, and grows from `least` with their number.

    With fewer than `crowded` for each engine, nobody is kept from anything: a second of an engine that has room is
    worth nothing to others, and who is done first takes the call.
    """

    least: float = 0.3
    most: float = 8.0
    backlog: float = 4.0
    crowded: float = 0.6

    def of_cheap(self, waiting: float) -> float:
        """Up to where a call counts as cheap, while so many calls wait for each engine that answers."""
        return self.least if waiting >= self.crowded else inf

    def at(self, waiting: float) -> float:
        """While so many calls wait for each engine that answers."""
        return self.least + (self.most - self.least) * min(1.0, waiting / self.backlog)


def dearness(
    load_s: Mapping[EngineId, float], prices: Mapping[EngineId, float], slow: Mapping[EngineId, float]
) -> dict[EngineId, float]:
    """Of a call that takes so many seconds of each engine, times what that is slower by than usual: its cost there over
    its least cost anywhere, 1 or more."""
    cost = {engine: seconds * prices.get(engine, 1.0) * slow[engine] for engine, seconds in load_s.items()}
    least = min(cost.values())
    return {engine: one / least for engine, one in cost.items()}
