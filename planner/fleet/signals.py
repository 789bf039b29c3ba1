"""What an autoscaler should go by: tokens that are asked for in a second, and those that are possible.

Of the signals tried on tens of thousands of GPUs, tokens per second scaled best; the use of GPUs tells little, for one
that decodes is busy whatever it writes (HeteroScale, arXiv 2508.19559). What is possible is the load at which calls
leave their bounds (`planner.fleet.knee`), not the most tokens an engine can write.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from planner.errors import FleetImpossible, Problem
from planner.fleet.kinds import EngineKind
from planner.fleet.knee import find_knee
from planner.fleet.sharing import require_served, sharing
from planner.fleet.workload import Slo, Workload

#: The share of what is possible that is aimed at.
TARGET_LOAD = 0.8
#: Within this part of the target nothing is changed (HeteroScale's dead band).
DEAD_BAND = 0.1


@dataclass(frozen=True, slots=True)
class Signal:
    """Of one model, in tokens for each second: `prefill` are prompt tokens that are not cached, `decode` written ones.

    What is `possible` is in the mix that is asked for. `engines_wanted` are of the kinds there are, in their mix. With
    `tenants`, all of it is of engines that are kept for these.
    """

    model: str
    engines: int
    prefill_demanded: float
    prefill_possible: float
    decode_demanded: float
    decode_possible: float
    engines_wanted: int
    tenants: tuple[str, ...] = ()

    @property
    def load(self) -> float:
        """What is asked for, as a part of what is possible."""
        return self.decode_demanded / self.decode_possible


def signals(
    demand: Workload, slo: Slo, engines: Mapping[EngineKind, int], target: float = TARGET_LOAD
) -> tuple[Signal, ...]:
    """One for each model that is asked for; for each group of calls to it that have no engine in common, where engines
    are kept for tenants. Raises `FleetImpossible` where an engine is missing, or too slow."""
    require_served(demand, list(engines))
    parts = sharing(demand.calls, engines)
    return tuple(_signal(demand.only(one.calls), slo, {k: engines[k] for k in one.kinds}, target) for one in parts)


def _signal(part: Workload, slo: Slo, serving: Mapping[EngineKind, int], target: float) -> Signal:
    model = next(iter(serving)).model
    possible = find_knee(part, slo, serving, loads=()).programs_per_s / part.programs_per_s
    if not possible:
        what = "its classes of calls are in each other's way on these engines, however few come"
        raise FleetImpossible((Problem(model, what, "loosen the bounds"),))
    prefill = sum(part.rate(call) * call.prefill_tokens for call in part.calls)
    decode = sum(part.rate(call) * call.output_tokens for call in part.calls)
    there = sum(serving.values())
    wanted = _wanted(there, 1 / possible, target)
    return Signal(model, there, prefill, prefill * possible, decode, decode * possible, wanted, _kept_for(serving))


def _kept_for(kinds: Iterable[EngineKind]) -> tuple[str, ...]:
    """Nobody where one of them is everybody's."""
    kept = [kind.tenants for kind in kinds]
    return tuple(dict.fromkeys(tenant for tenants in kept for tenant in tenants)) if all(kept) else ()


def _wanted(there: int, load: float, target: float) -> int:
    if abs(load / target - 1) <= DEAD_BAND:
        return there
    return max(1, ceil(there * load / target))
