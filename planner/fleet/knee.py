"""How much a fleet can do before calls leave their bounds, and what one more engine adds to that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from planner.errors import FleetImpossible, Problem
from planner.fleet.capacity import Capacities, bounds_of_classes
from planner.fleet.energy import mix_watts
from planner.fleet.kinds import EngineKind
from planner.fleet.mix_values import Mix, Rates
from planner.fleet.occupancy import Latency, Occupancy
from planner.fleet.sharing import require_served
from planner.fleet.workload import CallClass, Slo, Workload
from planner.placement.linear import LinearProgram

#: Where the curve is told, as parts of the knee.
LOADS = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)
_HALVINGS = 14


@dataclass(frozen=True, slots=True)
class ClassLatency:
    """Of one class: on average, and what the share of the SLO does not exceed."""

    call: CallClass
    mean: Latency
    high: Latency


@dataclass(frozen=True, slots=True)
class Point:
    """The fleet at one load: what calls take, and what the GPUs draw. `kept` says whether the bounds are."""

    programs_per_s: float
    kept: bool
    latencies: tuple[ClassLatency, ...]
    program_s: float
    watts: float

    @property
    def joules_per_program(self) -> float:
        return self.watts / self.programs_per_s if self.programs_per_s else inf


@dataclass(frozen=True, slots=True)
class Knee:
    """`programs_per_s` is the load from which on more than the allowed share of calls leave their bounds. `rates` are
    where the calls go at that load, and at any other in the same parts. `curve` tells of loads around it; there is none
    where the knee is 0: classes that keep their bounds alone are in each other's way however few come.
    """

    programs_per_s: float
    rates: Rates
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class OneMore:
    """What the knee becomes with one more engine of `kind`."""

    kind: EngineKind
    programs_per_s: float
    gained_per_s: float

    @property
    def usd_per_million(self) -> float:
        """What a million more programs cost on it, when it is used to the knee."""
        return self.kind.usd_per_hour / 3600 / self.gained_per_s * 1e6 if self.gained_per_s > 0 else inf


def find_knee(workload: Workload, slo: Slo, engines: Mapping[EngineKind, int], loads: Sequence[float] = LOADS) -> Knee:
    """Raises `FleetImpossible` where a class keeps its bounds on no engine, however few calls come."""
    capacities = _capacities(workload, slo, list(engines))
    _check(workload, engines, capacities)
    rates, most = _most(workload, engines, capacities)
    if not most:
        return Knee(0.0, {}, ())
    points = tuple(fleet_at(workload.at(most), engines, rates, capacities, load) for load in loads)
    return Knee(most, rates, points)


def one_more(
    workload: Workload, slo: Slo, engines: Mapping[EngineKind, int], candidates: Sequence[EngineKind]
) -> tuple[OneMore, ...]:
    """For each candidate, the cheapest gain first. Bounds of programs are divided as for all candidates together."""
    capacities = _capacities(workload, slo, list(dict.fromkeys((*engines, *candidates))))
    _, before = _most(workload, engines, capacities)
    found = []
    for kind in dict.fromkeys(kind for kind in candidates if any(kind.serves(call) for call in workload.calls)):
        _, after = _most(workload, {**engines, kind: engines.get(kind, 0) + 1}, capacities)
        found.append(OneMore(kind, after, max(0.0, after - before)))
    return tuple(sorted(found, key=lambda more: (more.usd_per_million, more.kind.usd_per_hour, more.kind.name)))


def point_of(workload: Workload, slo: Slo, mix: Mix) -> Point:
    """A mix under the load it was made for."""
    capacities = _capacities(workload, slo, list(mix.engines))
    return fleet_at(workload, mix.engines, mix.rates, capacities, 1.0)


def fleet_at(
    workload: Workload, engines: Mapping[EngineKind, int], rates: Rates, capacities: Capacities, load: float
) -> Point:
    """`rates` are for the workload; all of them are multiplied by `load`."""
    scaled = {kind: {call: rate * load for call, rate in of_kind.items()} for kind, of_kind in rates.items()}
    mix = Mix(engines, scaled)
    used = {kind: Occupancy(kind, mix.for_each(kind), capacities.share) for kind in engines}
    latencies = tuple(_latency(call, scaled, used) for call in workload.calls)
    program_s = sum(one.call.turns * one.mean.call_s for one in latencies)
    kept = all(one.keeps(capacities.slos) for one in used.values() if one.rates)
    return Point(workload.programs_per_s * load, kept, latencies, program_s, mix_watts(mix))


def _latency(call: CallClass, rates: Rates, used: Mapping[EngineKind, Occupancy]) -> ClassLatency:
    """The mean over the kinds that get the class, and the worst of them."""
    given = {kind: of_kind[call] for kind, of_kind in rates.items() if of_kind.get(call, 0.0) > 0}
    whole, means = sum(given.values()), {kind: used[kind].mean_latency(call) for kind in given}
    highs = [used[kind].latency(call) for kind in given]
    mean = Latency(
        sum(rate / whole * means[kind].first_token_s for kind, rate in given.items()),
        sum(rate / whole * means[kind].token_s for kind, rate in given.items()),
        sum(rate / whole * means[kind].call_s for kind, rate in given.items()),
    )
    high = Latency(
        max(one.first_token_s for one in highs), max(one.token_s for one in highs), max(one.call_s for one in highs)
    )
    return ClassLatency(call, mean, high)


def _capacities(workload: Workload, slo: Slo, kinds: Sequence[EngineKind]) -> Capacities:
    require_served(workload, kinds)
    return Capacities(bounds_of_classes(workload, slo, kinds), slo.share)


def _check(workload: Workload, engines: Mapping[EngineKind, int], capacities: Capacities) -> None:
    problems = tuple(_impossible(workload, engines, capacities))
    if problems:
        raise FleetImpossible(problems)


def _impossible(workload: Workload, engines: Mapping[EngineKind, int], capacities: Capacities) -> Iterator[Problem]:
    for call in workload.calls:
        if not any(count and capacities.calls_per_s(kind, call) > 0 for kind, count in engines.items()):
            what = "no engine of the fleet keeps the bounds of these calls, however few come"
            yield Problem(call.name, what, "loosen the bounds, or add a faster engine")


def _most(workload: Workload, engines: Mapping[EngineKind, int], capacities: Capacities) -> tuple[Rates, float]:
    """Where calls go and how many programs a second that allows: shares by a linear program that adds up loads, then
    the load at which the queues with these shares leave their bounds."""
    shares, times = _shares(workload, engines, capacities)
    if not times:
        return {}, 0.0
    low, high = 0.0, 2 * times
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        kept = _keeps(workload, engines, shares, middle, capacities)
        low, high = (middle, high) if kept else (low, middle)
    rates = {
        kind: {call: workload.rate(call) * low * share for call, share in of.items()} for kind, of in shares.items()
    }
    return rates, workload.programs_per_s * low


def _keeps(
    workload: Workload, engines: Mapping[EngineKind, int], shares: Rates, times: float, capacities: Capacities
) -> bool:
    rates = {
        kind: {call: workload.rate(call) * share * times / engines[kind] for call, share in of_kind.items()}
        for kind, of_kind in shares.items()
    }
    return all(capacities.keeps(kind, of_kind) for kind, of_kind in rates.items() if of_kind)


def _shares(workload: Workload, engines: Mapping[EngineKind, int], capacities: Capacities) -> tuple[Rates, float]:
    """How the calls of each class divide among kinds when as much as possible is done, and how many times as much as
    the workload that is."""
    program = LinearProgram()
    times = program.add_variable(-1.0)
    given: dict[tuple[EngineKind, CallClass], int] = {}
    for kind, count in engines.items():
        most = {call: capacities.calls_per_s(kind, call) for call in workload.calls}
        given |= {(kind, call): program.add_variable() for call in workload.calls if count and most[call] > 0}
        row = {given[kind, call]: workload.rate(call) / most[call] for call in workload.calls if (kind, call) in given}
        if row:
            program.add_row(row, -inf, float(count))
    for call in workload.calls:
        program.add_row({times: -1.0} | {given[pair]: 1.0 for pair in given if pair[1] == call}, 0.0, 0.0)
    solution = program.solve()
    found = float(solution.values[times]) if solution.feasible else 0.0
    if found <= 0:
        return {}, 0.0
    shares: dict[EngineKind, dict[CallClass, float]] = {}
    for (kind, call), variable in given.items():
        if (share := float(solution.values[variable]) / found) > 1e-9:
            shares.setdefault(kind, {})[call] = share
    return shares, found
