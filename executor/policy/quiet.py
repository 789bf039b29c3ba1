"""Engines that tenants which ask for little have nearly to themselves, beside others that ask for all they can get.

A call that writes takes a token of each step; one whose prompt is read fills steps, and all that write beside it wait.
So a tenant's P95 doubles where others bring long prompts to the engines it is in, however fairly turns are taken. Who
has no backlog gets as many quiet engines as its calls need and its weight is worth; others bring prompts there at a
small part of the engine's time, and take all others. Nobody is kept from an engine that nobody calm is in, but for what
would delay one that comes.
"""

from collections.abc import Collection
from dataclasses import dataclass

from planner.ir.ids import EngineId

#: What of a quiet engine's time others may have at least for their prompts.
LEAST_PART = 0.1
#: So full calls of calm tenants make their engines: steps are longer the more calls write, and some are to come yet.
FULL = 0.5
#: How many seconds of prompts may be unread in a quiet engine that no calm tenant has a call in.
UNREAD_S = 0.3
#: What of a quiet engine's places, and of its KV, is for calls of others: who is calm finds room when a call comes.
OTHERS_SHARE = 0.75
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Standing:
    """An engine of so many `places`: calls of calm tenants inside, all its load, and whether it is quiet now."""

    engine: EngineId
    places: int
    calm: int
    load_s: float
    quiet: bool = False


def quiet_parts(engines: Collection[Standing], calls: int, share: float) -> dict[EngineId, float]:
    """The quiet engines, each with the part of its time in which others may bring prompts.

    Calm tenants have up to so many `calls` inside at once, and are entitled to that `share` of all engines, from 0 to
    1. What they do not have of these by way of quiet engines is for others: they keep all that they are entitled to.
    Engines that are quiet stay so rather than others.
    """
    worth = share * len(engines)
    parts: dict[EngineId, float] = {}
    places = 0.0
    for one in sorted(engines, key=lambda one: (not one.quiet, -one.calm, one.load_s, one.engine)):
        left = worth - len(parts)
        if left <= _ROUNDING_S or places >= calls:
            break
        parts[one.engine] = max(LEAST_PART, 1.0 - left)
        places += FULL * one.places
    return parts


@dataclass(slots=True)
class Unread:
    """What others brought to a quiet engine to read, in seconds: it is worked off at their `part` of the time. The next
    prompt, however long, may come when that is done."""

    part: float = 1.0
    unread_s: float = 0.0
    at_s: float = 0.0

    def goes_on(self, part: float, now_s: float) -> None:
        """At this part of the time from now on."""
        self.unread_s = max(0.0, self.unread_s - self.part * (now_s - self.at_s))
        self.part, self.at_s = part, now_s

    def brought(self, prefill_s: float, now_s: float) -> None:
        self.goes_on(self.part, now_s)
        self.unread_s += prefill_s

    def opens_s(self) -> float:
        """When the next may come, if nothing changes before."""
        spare_s = UNREAD_S if self.part >= 1.0 else 0.0
        return self.at_s + max(0.0, self.unread_s - spare_s) / self.part

    def open(self, now_s: float) -> bool:
        return now_s >= self.opens_s() - _ROUNDING_S
