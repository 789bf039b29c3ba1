"""The cheapest engines for a workload: an integer program, checked against the queues on the engines it names.

The program is that of Mélange (arXiv 2404.14527, section 5.3): how many engines of each kind, and which share of each
class of calls they take, so that no kind has more to do than its engines can and the fleet costs least. Mélange cuts
each class into slices that stay whole; a router can send any share anywhere, so here the shares are not cut and only
engines are whole, which makes the program far smaller. What an engine can take of a class comes from the cost model or
a measured profile (`planner.fleet.capacity`), with the randomness of arrivals in it.

The program adds up the load of classes as if they did not meet. Where together they leave their bounds on an engine,
its kind is credited with less and the program solved again; where they keep them with room to spare, with more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from planner.errors import FleetImpossible, Problem
from planner.fleet.capacity import Capacities, bounds_of_classes
from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass, Slo, Workload
from planner.placement.linear import LinearProgram

Rates = Mapping[EngineKind, Mapping[CallClass, float]]

_ROUNDS = 12
_CREDITS = (1.0, 1.05, 1.1, 1.2, 1.35)
_NOTHING = 1e-9


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


def cheapest_mix(
    workload: Workload, slo: Slo, kinds: Sequence[EngineKind], at_most: Mapping[str, int] | None = None
) -> Mix:
    """`at_most` bounds the GPUs of a kind, by its name. Raises `FleetImpossible` with everything that is in the way."""
    _check(workload, kinds)
    capacities = Capacities(bounds_of_classes(workload, slo, kinds), slo.share)
    _check_capacities(workload, kinds, capacities)
    worth = _worth_it(workload, kinds, capacities, at_most or {})
    found = [mix for credit in _CREDITS if (mix := _kept(workload, worth, capacities, at_most or {}, credit))]
    if not found:
        fix = "allow more GPUs, other kinds or looser bounds"
        raise FleetImpossible((Problem("the GPUs allowed", "they cannot do it within the bounds", fix),))
    return min(found, key=lambda mix: mix.usd_per_hour)


def _worth_it(
    workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities, at_most: Mapping[str, int]
) -> list[EngineKind]:
    """Without those of which another kind, of any number, does more of everything for the same money or less."""
    figures = {kind: [capacities.calls_per_s(kind, call) for call in workload.calls] for kind in kinds}
    kept: list[EngineKind] = []
    for kind in sorted(kinds, key=lambda kind: (kind.usd_per_hour, [-figure for figure in figures[kind]])):
        before = (other for other in kept if other.gpu.name not in at_most)
        if not any(_at_least(figures[other], figures[kind]) for other in before):
            kept.append(kind)
    return kept


def _at_least(figures: Sequence[float], others: Sequence[float]) -> bool:
    return all(one >= other for one, other in zip(figures, others, strict=True))


def _kept(
    workload: Workload,
    kinds: Sequence[EngineKind],
    capacities: Capacities,
    at_most: Mapping[str, int],
    credit: float,
) -> Mix | None:
    """The cheapest with all bounds kept, when kinds begin with that much credit; `None` where there is none."""
    credits = dict.fromkeys(kinds, credit)
    for _ in range(_ROUNDS):
        mix = _solved(workload, kinds, capacities, at_most, credits)
        if mix is None:
            return None
        short = {kind: times for kind in mix.engines if (times := _spare(mix, kind, capacities)) < 1}
        if not short:
            return mix
        for kind, times in short.items():
            credits[kind] *= max(0.5, times) * 0.999
    return None


def _spare(mix: Mix, kind: EngineKind, capacities: Capacities) -> float:
    """1 where each engine of the kind keeps the bounds of what it gets; else by how much that has to shrink."""
    rates = mix.for_each(kind)
    if not rates or capacities.keeps(kind, rates):
        return 1.0
    return capacities.most_times(kind, rates)


def _solved(
    workload: Workload,
    kinds: Sequence[EngineKind],
    capacities: Capacities,
    at_most: Mapping[str, int],
    credits: Mapping[EngineKind, float],
) -> Mix | None:
    program, engines = LinearProgram(), {}
    for kind in kinds:
        engines[kind] = program.add_variable(kind.usd_per_hour, 0.0, _most(kind, at_most), whole=True)
    shares: dict[tuple[EngineKind, CallClass], int] = {}
    for kind in kinds:
        loads = {call: _load(workload, kind, call, capacities, credits[kind]) for call in workload.calls}
        shares |= {(kind, call): program.add_variable(0.0, 0.0, 1.0) for call, load in loads.items() if load < inf}
        row = {shares[kind, call]: -load for call, load in loads.items() if load < inf}
        program.add_row(row | {engines[kind]: 1.0}, 0.0)
    for call in workload.calls:
        program.add_row({shares[kind, call]: 1.0 for kind in kinds if (kind, call) in shares}, 1.0, 1.0)
    for gpu, most in at_most.items():
        program.add_row({engines[kind]: float(kind.gpus) for kind in kinds if kind.gpu.name == gpu}, 0.0, float(most))
    solution = program.solve()
    if not solution.feasible:
        return None
    counts = {kind: round(solution.values[engines[kind]]) for kind in kinds}
    given = {pair: float(solution.values[variable]) for pair, variable in shares.items()}
    return _mix(workload, counts, given)


def _mix(
    workload: Workload, counts: Mapping[EngineKind, int], given: Mapping[tuple[EngineKind, CallClass], float]
) -> Mix:
    engines = {kind: count for kind, count in counts.items() if count}
    rates = {
        kind: {
            call: workload.rate(call) * share
            for call in workload.calls
            if (share := given.get((kind, call), 0.0)) > _NOTHING
        }
        for kind in engines
    }
    return Mix(engines, rates)


def _load(workload: Workload, kind: EngineKind, call: CallClass, capacities: Capacities, credit: float) -> float:
    """How many engines of the kind all calls of the class keep busy; infinite where it cannot serve them."""
    most = capacities.calls_per_s(kind, call)
    return workload.rate(call) / (most * credit) if most > 0 else inf


def _most(kind: EngineKind, at_most: Mapping[str, int]) -> float:
    return float(at_most[kind.gpu.name] // kind.gpus) if kind.gpu.name in at_most else inf


def _check(workload: Workload, kinds: Sequence[EngineKind]) -> None:
    served = {kind.model for kind in kinds}
    missing = [model for model in workload.models if model not in served]
    if missing:
        fix = "allow GPUs with more memory, or more of them for one engine"
        raise FleetImpossible(
            tuple(Problem(model, "no GPU allowed has room for it and its KV", fix) for model in missing)
        )


def _check_capacities(workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities) -> None:
    problems = tuple(_impossible(workload, kinds, capacities))
    if problems:
        raise FleetImpossible(problems)


def _impossible(workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities) -> Iterator[Problem]:
    for call in workload.calls:
        if not any(capacities.calls_per_s(kind, call) > 0 for kind in kinds):
            what = "no kind of engine allowed keeps the bounds of these calls, however few come"
            yield Problem(call.name, what, "loosen the bounds, or allow faster or more GPUs for one engine")
