"""What an autoscaler should go by: tokens that are asked for in a second, and those that are possible.

Of the signals tried on tens of thousands of GPUs, tokens per second scaled best; the use of GPUs tells little, for one
that decodes is busy whatever it writes (HeteroScale, arXiv 2508.19559). What is possible is the load at which calls
leave their bounds (`planner.fleet.knee`), not the most tokens an engine can write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from planner.errors import FleetImpossible, Problem
from planner.fleet.kinds import EngineKind
from planner.fleet.knee import find_knee
from planner.fleet.workload import Slo, Workload

#: The share of what is possible that is aimed at.
TARGET_LOAD = 0.8
#: Within this part of the target nothing is changed (HeteroScale's dead band).
DEAD_BAND = 0.1


@dataclass(frozen=True, slots=True)
class Signal:
    """Of one model, in tokens for each second: `prefill` are prompt tokens that are not cached, `decode` written ones.

    What is `possible` is in the mix that is asked for. `engines_wanted` are of the kinds there are, in their mix.
    """

    model: str
    engines: int
    prefill_demanded: float
    prefill_possible: float
    decode_demanded: float
    decode_possible: float
    engines_wanted: int

    @property
    def load(self) -> float:
        """What is asked for, as a part of what is possible."""
        return self.decode_demanded / self.decode_possible


def signals(
    demand: Workload, slo: Slo, engines: Mapping[EngineKind, int], target: float = TARGET_LOAD
) -> tuple[Signal, ...]:
    """One for each model that is asked for. Raises `FleetImpossible` where an engine is missing, or too slow."""
    return tuple(_signal(model, demand, slo, engines, target) for model in demand.models)


def _signal(model: str, demand: Workload, slo: Slo, engines: Mapping[EngineKind, int], target: float) -> Signal:
    of_model = Workload(demand.programs_per_s, tuple(demand.of_model(model)))
    serving = {kind: count for kind, count in engines.items() if kind.model == model}
    possible = find_knee(of_model, slo, serving, loads=()).programs_per_s / demand.programs_per_s
    if not possible:
        what = "its classes of calls are in each other's way on these engines, however few come"
        raise FleetImpossible((Problem(model, what, "loosen the bounds"),))
    prefill = sum(of_model.rate(call) * call.prefill_tokens for call in of_model.calls)
    decode = sum(of_model.rate(call) * call.output_tokens for call in of_model.calls)
    there = sum(serving.values())
    wanted = _wanted(there, 1 / possible, target)
    return Signal(model, there, prefill, prefill * possible, decode, decode * possible, wanted)


def _wanted(there: int, load: float, target: float) -> int:
    if abs(load / target - 1) <= DEAD_BAND:
        return there
    return max(1, ceil(there * load / target))
