"""Which engines of a large fleet are looked at for one call, so that a decision takes no longer in a larger fleet."""

from collections.abc import Iterable, Sequence
from zlib import crc32

from planner.ir.ids import EngineId

#: Of more engines than this, only some are looked at.
MANY = 16
#: So many are drawn: the least loaded of a few drawn is nearly the least loaded of all (Mitzenmacher, The power of two
#: choices in randomized load balancing, 2001; Llumnix and Block draw likewise).
DRAWN = 8


def looked_at(engines: Sequence[EngineId], call: str, always: Iterable[EngineId] = ()) -> list[EngineId]:
    """All of a few engines; of many, those of `always` and some drawn by the call's name, the same for the same one."""
    if len(engines) <= MANY:
        return list(engines)
    among = set(engines)
    some = (engines[place] for place in drawn(len(engines), call))
    return list(dict.fromkeys([*(engine for engine in always if engine in among), *some]))


def drawn(engines: int, call: str) -> list[int]:
    """The places of some of so many engines."""
    start, step = crc32(call.encode()), engines / DRAWN
    return [int(start + number * step) % engines for number in range(DRAWN)]
