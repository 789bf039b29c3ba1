"""How many calls of each class one engine of a kind takes while they keep their bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from planner.fleet.kinds import EngineKind
from planner.fleet.occupancy import Occupancy
from planner.fleet.workload import CallClass, Slo, Workload

_HALVINGS = 14  # the rate is known to 1 in 16,000 of what the engine can do at most


class Capacities:
    """Worked out once for each kind and class. `slos` are the bounds of each class, `share` what of it keeps them."""

    def __init__(self, slos: Mapping[CallClass, Slo], share: float) -> None:
        self.slos, self.share = slos, share
        self._found: dict[tuple[EngineKind, CallClass], float] = {}

    def calls_per_s(self, kind: EngineKind, call: CallClass) -> float:
        """Of one class alone on one engine; 0 where it cannot keep the bounds at all, or does not take it."""
        key = kind, call
        if key not in self._found:
            self._found[key] = self._calls_per_s(kind, call)
        return self._found[key]

    def keeps(self, kind: EngineKind, rates: Mapping[CallClass, float]) -> bool:
        """Whether one engine with these rates keeps all bounds."""
        return Occupancy(kind, rates, self.share).keeps(self.slos)

    def most_times(self, kind: EngineKind, rates: Mapping[CallClass, float]) -> float:
        """By how much the rates may be multiplied; 0 where no rate is low enough."""
        most = Occupancy(kind, rates, self.share).most / sum(rates.values())
        low, high = 0.0, most
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            kept = self.keeps(kind, {call: rate * middle for call, rate in rates.items()})
            low, high = (middle, high) if kept else (low, middle)
        return low

    def _calls_per_s(self, kind: EngineKind, call: CallClass) -> float:
        if not kind.takes(call):
            return 0.0
        return self.most_times(kind, {call: 1.0})


def bounds_of_classes(workload: Workload, slo: Slo, kinds: Sequence[EngineKind]) -> dict[CallClass, Slo]:
    """The bounds with that on a whole program divided among its calls, by what each takes alone on the kind on which it
    takes least: as many times as long may each last."""
    if slo.program_s is None:
        return dict.fromkeys(workload.calls, slo)
    alone = {call: _least_s(call, kinds) for call in workload.calls}
    times = slo.program_s / sum(call.turns * seconds for call, seconds in alone.items())
    return {call: replace(slo, call_s=min(times * alone[call], slo.call_s or times * alone[call])) for call in alone}


def _least_s(call: CallClass, kinds: Sequence[EngineKind]) -> float:
    serving = [kind for kind in kinds if kind.serves(call)]
    return min(Occupancy(kind, {call: 1e-9}).latency(call).call_s for kind in serving)
