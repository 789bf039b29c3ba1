"""Which engines a fleet has, and which calls they get."""

from collections.abc import Mapping
from dataclasses import dataclass

from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass

Rates = Mapping[EngineKind, Mapping[CallClass, float]]


@dataclass(frozen=True, slots=True)
class Mix:
    """How many engines of each kind, and the calls of each class that all of a kind get in a second."""

    engines: Mapping[EngineKind, int]
    rates: Rates

    @property
    def usd_per_hour(self) -> float:
        return sum(count * kind.usd_per_hour for kind, count in self.engines.items())

    def for_each(self, kind: EngineKind) -> dict[CallClass, float]:
        """What each engine of the kind gets: as much as any other."""
        return {call: rate / self.engines[kind] for call, rate in self.rates.get(kind, {}).items()}
