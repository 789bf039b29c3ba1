"""Which calls have engines in common, and which have none: those that share none are planned apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.errors import FleetImpossible, Problem
from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass, Workload


@dataclass(frozen=True, slots=True)
class Sharing:
    """Calls, and the kinds that serve any of them: no other calls go there."""

    calls: tuple[CallClass, ...]
    kinds: tuple[EngineKind, ...]


def sharing(calls: Iterable[CallClass], kinds: Iterable[EngineKind]) -> list[Sharing]:
    """In the order of the first call of each."""
    kinds, found = list(kinds), list[Sharing]()
    for call in calls:
        serving = [kind for kind in kinds if kind.serves(call)]
        touched = [one for one in found if any(kind in one.kinds for kind in serving)]
        joined = _joined([*touched, Sharing((call,), tuple(serving))])
        place = found.index(touched[0]) if touched else len(found)
        found[place : place + 1] = [joined]
        found = [one for one in found if one not in touched]
    return found


def require_served(workload: Workload, kinds: Sequence[EngineKind]) -> None:
    """Raises `FleetImpossible` with all calls that nobody may take."""
    missing = [call for call in workload.calls if not any(kind.serves(call) for kind in kinds)]
    if missing:
        raise FleetImpossible(tuple(dict.fromkeys(_unserved(call, kinds) for call in missing)))


def _unserved(call: CallClass, kinds: Sequence[EngineKind]) -> Problem:
    keeping = [kind for kind in kinds if kind.model == call.model or call.model in kind.adapters]
    if not keeping:
        return Problem(call.model, "no engine of the fleet serves it", "name an engine that serves it")
    if call.apart:
        what = f"no engine of the fleet is kept for the tenant {call.tenant!r}"
        return Problem(call.model, what, "name the tenant in `tenants` of an engine, or do not keep its calls apart")
    what = f"the engines that serve it are kept for other tenants than {call.tenant!r}"
    return Problem(call.model, what, f"name {call.tenant!r} in `tenants` of an engine that serves it")


def _joined(parts: list[Sharing]) -> Sharing:
    calls = dict.fromkeys(call for part in parts for call in part.calls)
    return Sharing(tuple(calls), tuple(dict.fromkeys(kind for part in parts for kind in part.kinds)))
