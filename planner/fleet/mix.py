"""The cheapest engines for a workload: an integer program, checked against the queues on the engines it names.

The program is that of Mélange (arXiv 2404.14527, section 5.3): how many engines of each kind, and which share of each
class of calls they take, so that no kind has more to do than its engines can and the fleet costs least. Mélange cuts
each class into slices that stay whole; a router can send any share anywhere, so here the shares are not cut and only
engines are whole, which makes the program far smaller. Engines may also be kept for one class. What an engine can take
of a class comes from the cost model or a measured profile (`planner.fleet.capacity`), with the randomness of arrivals.

The program adds up the loads of classes as if they did not meet. What an engine really takes of the classes that a
solution gives it is asked of its queue; its kind is credited with that much more or less, and the program solved again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import inf

from planner.errors import FleetImpossible, Problem
from planner.fleet.capacity import Capacities, bounds_of_classes
from planner.fleet.improve import allowed, fewest, improved
from planner.fleet.kinds import EngineKind
from planner.fleet.mix_values import Mix
from planner.fleet.sharing import sharing
from planner.fleet.workload import CallClass, Slo, Workload
from planner.placement.linear import LinearProgram

_ROUNDS = 8
#: So many kinds are tried in proportion, and in these parts.
_PROPORTIONED, _PARTS = 4, (0.25, 0.5, 0.75)
_GAP = 2e-3  # capacities are not known as well as that
#: Kinds kept for one class are so many in all, and for each class at least these.
_DEDICATED, _DEDICATED_KINDS = 32, 3
_NOTHING = 1e-9


def cheapest_mix(
    workload: Workload, slo: Slo, kinds: Sequence[EngineKind], at_most: Mapping[str, int] | None = None
) -> Mix:
    """`at_most` bounds the GPUs of a kind, by its name. Calls that have no engine in common, for they ask other models
    or are of tenants that are kept apart, get engines of their own. Raises `FleetImpossible` with everything that is in
    the way."""
    _check(workload, kinds)
    capacities = Capacities(bounds_of_classes(workload, slo, kinds), slo.share)
    _check_capacities(workload, kinds, capacities)
    limits = at_most or {}
    if limits:  # parts that have no engines in common may still want the same GPUs
        return _cheapest(workload, kinds, capacities, limits)
    parts = [(workload.only(part.calls), part.kinds) for part in sharing(workload.calls, kinds)]
    return reduce(_together, (_cheapest(part, serving, capacities, limits) for part, serving in parts))


def _cheapest(
    workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities, limits: Mapping[str, int]
) -> Mix:
    worth = _worth_it(workload, kinds, capacities, limits)
    apart = _dedicated(workload, worth, capacities)
    starts = (
        dict.fromkeys(apart, 1.0),
        dict.fromkeys([*worth, *apart], 1.0),
        {kind: _credit_of_all(workload, kind, capacities) for kind in worth} | dict.fromkeys(apart, 1.0),
    )
    found = [list(_kept(workload, capacities, limits, credits)) for credits in starts]
    found.append(list(_in_proportion(workload, worth, capacities, limits)))
    if not any(found):
        fix = "allow more GPUs, other kinds or looser bounds"
        raise FleetImpossible((Problem("the GPUs allowed", "they cannot do it within the bounds", fix),))
    best = [min(mixes, key=_usd_per_hour) for mixes in found if mixes]
    return min((improved(mix, worth, capacities, limits) for mix in best), key=_usd_per_hour)


def _together(one: Mix, other: Mix) -> Mix:
    return Mix({**one.engines, **other.engines}, {**one.rates, **other.rates})


def _in_proportion(
    workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities, at_most: Mapping[str, int]
) -> Iterator[Mix]:
    """All calls on one kind, or the same part of each class on one and the rest on another: of those on which the whole
    costs least."""
    loads = {kind: _load_of_all(workload, kind, capacities) for kind in kinds}
    able = sorted((kind for kind in kinds if loads[kind] < inf), key=lambda kind: loads[kind] * kind.usd_per_hour)
    for kind in able[:_PROPORTIONED]:
        for other in able[:_PROPORTIONED]:
            for part in _PARTS if kind != other else (1.0,):
                rates = {call: workload.rate(call) for call in workload.calls}
                given = {kind: {call: rate * part for call, rate in rates.items()}}
                given |= {other: {call: rate * (1 - part) for call, rate in rates.items()}} if part < 1 else {}
                mix = Mix({one: fewest(one, of_one, capacities) for one, of_one in given.items()}, given)
                if allowed(mix, at_most):
                    yield mix


def _load_of_all(workload: Workload, kind: EngineKind, capacities: Capacities) -> float:
    return sum(_load(workload, kind, call, capacities, 1.0) for call in workload.calls)


def _usd_per_hour(mix: Mix) -> float:
    return mix.usd_per_hour


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


def _dedicated(workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities) -> list[EngineKind]:
    """For each class the kinds on which it costs least, kept for it: capacities are of one class alone, so that such a
    fleet always keeps the bounds. And classes with unlike bounds may be better off apart."""
    found: list[EngineKind] = []
    for call in workload.calls:
        most = {kind: capacities.calls_per_s(kind, call) for kind in kinds}
        able = sorted((kind for kind in kinds if most[kind] > 0), key=lambda kind: kind.usd_per_hour / most[kind])
        found.extend(
            replace(kind, only=call) for kind in able[: max(_DEDICATED_KINDS, _DEDICATED // len(workload.calls))]
        )
    return found


def _at_least(figures: Sequence[float], others: Sequence[float]) -> bool:
    return all(one >= other for one, other in zip(figures, others, strict=True))


def _kept(
    workload: Workload,
    capacities: Capacities,
    at_most: Mapping[str, int],
    credits: dict[EngineKind, float],
) -> Iterator[Mix]:
    """Mixes that keep all bounds, from round to round with truer credits."""
    tried = set[tuple[tuple[EngineKind, int], ...]]()
    for _ in range(_ROUNDS):
        mix = _solved(workload, list(credits), capacities, at_most, credits)
        if mix is None:
            return
        times = {kind: capacities.most_times(kind, rates) for kind in mix.rates if (rates := mix.for_each(kind))}
        credits |= {kind: more * _added_up(mix, kind, capacities) for kind, more in times.items() if more > 0}
        if all(more >= 1 for more in times.values()):
            yield mix
        engines = tuple(mix.engines.items())
        if engines in tried and all(more >= 1 for more in times.values()):
            return
        tried.add(engines)


def _credit_of_all(workload: Workload, kind: EngineKind, capacities: Capacities) -> float:
    """What a kind is credited with when it takes of each class in the proportions of the workload, as far as it can."""
    rates = {call: workload.rate(call) for call in workload.calls if capacities.calls_per_s(kind, call) > 0}
    if not rates:
        return 1.0
    added_up = sum(rate / capacities.calls_per_s(kind, call) for call, rate in rates.items())
    return capacities.most_times(kind, rates) * added_up or 1.0


def _added_up(mix: Mix, kind: EngineKind, capacities: Capacities) -> float:
    """How full an engine of the kind is when the loads of its classes are added up."""
    return sum(rate / capacities.calls_per_s(kind, call) for call, rate in mix.for_each(kind).items())


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
    solution = program.solve(_GAP)
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
    missing = [call.weights for call in workload.calls if not any(kind.serves(call) for kind in kinds)]
    if missing:
        fix = "allow GPUs with more memory, or more of them for one engine"
        what = "no GPU allowed has room for it and its KV"
        raise FleetImpossible(tuple(Problem(model, what, fix) for model in dict.fromkeys(missing)))


def _check_capacities(workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities) -> None:
    problems = tuple(_impossible(workload, kinds, capacities))
    if problems:
        raise FleetImpossible(problems)


def _impossible(workload: Workload, kinds: Sequence[EngineKind], capacities: Capacities) -> Iterator[Problem]:
    for call in workload.calls:
        if not any(capacities.calls_per_s(kind, call) > 0 for kind in kinds):
            what = "no kind of engine allowed keeps the bounds of these calls, however few come"
            yield Problem(call.name, what, "loosen the bounds, or allow faster or more GPUs for one engine")
