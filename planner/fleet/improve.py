"""A mix made cheaper by moving parts of classes between kinds, each kind with as few engines as its queues allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.fleet.capacity import Capacities
from planner.fleet.kinds import EngineKind
from planner.fleet.mix_values import Mix
from planner.fleet.workload import CallClass

Given = dict[EngineKind, dict[CallClass, float]]

_PARTS = (1.0, 0.5, 0.25)
#: Kinds that are asked about each class: those on which it costs least.
_TARGETS = 6
#: A search of so many moves tried takes about a second.
_MOST_TRIED = 400
_NOTHING = 1e-9
#: Where so many would not do, classes are in each other's way however few come.
_MOST_ENGINES = 1 << 20


_Part = tuple[EngineKind, CallClass, float]


@dataclass(frozen=True, slots=True)
class _Move:
    """So many calls of a class in a second from a kind that has them, each of these to one other kind."""

    parts: tuple[_Part, ...]
    target: EngineKind


def improved(mix: Mix, kinds: Sequence[EngineKind], capacities: Capacities, at_most: Mapping[str, int]) -> Mix:
    """A mix that keeps the bounds as `mix` does, and costs no more."""
    left = _MOST_TRIED
    while left > 0:
        better, tried = _better(mix, kinds, capacities, at_most, left)
        if better is None:
            return mix
        mix, left = better, left - tried
    return mix


def _better(
    mix: Mix, kinds: Sequence[EngineKind], capacities: Capacities, at_most: Mapping[str, int], most: int
) -> tuple[Mix | None, int]:
    """The first cheaper mix that one move leads to, and how many moves were tried for it."""
    tried = 0
    for tried, move in enumerate(_moves(mix, kinds, capacities), start=1):
        if tried > most:
            break
        found = _after(mix, move, capacities)
        if found.usd_per_hour < mix.usd_per_hour - _NOTHING and allowed(found, at_most):
            return found, tried
    return None, tried


def _moves(mix: Mix, kinds: Sequence[EngineKind], capacities: Capacities) -> Iterator[_Move]:
    """All of a class to one kind, or a part of what one kind has of it; then all that one kind has to another."""
    calls = dict.fromkeys(call for rates in mix.rates.values() for call in rates)
    targets = {call: _targets(call, kinds, capacities) for call in calls}
    for call in calls:
        having = {kind: rates[call] for kind, rates in mix.rates.items() if call in rates}
        for target in (one for kind in targets[call] for one in (kind, replace(kind, only=call))):
            others = {kind: rate for kind, rate in having.items() if kind != target}
            if len(others) > 1:
                yield _Move(tuple((kind, call, rate) for kind, rate in others.items()), target)
            for kind, rate in others.items():
                yield from (_Move(((kind, call, rate * part),), target) for part in _PARTS)
    for source, rates in mix.rates.items():
        for target in kinds:
            if target != source and all(target in targets[call] for call in rates):
                yield _Move(tuple((source, call, rate) for call, rate in rates.items()), target)


def _targets(call: CallClass, kinds: Sequence[EngineKind], capacities: Capacities) -> Sequence[EngineKind]:
    able = [kind for kind in kinds if capacities.calls_per_s(kind, call) > 0]
    return sorted(able, key=lambda kind: kind.usd_per_hour / capacities.calls_per_s(kind, call))[:_TARGETS]


def _after(mix: Mix, move: _Move, capacities: Capacities) -> Mix:
    rates: Given = {kind: dict(of_kind) for kind, of_kind in mix.rates.items()}
    target = rates.setdefault(move.target, {})
    for source, call, rate in move.parts:
        rates[source][call] -= rate
        if rates[source][call] <= _NOTHING:
            del rates[source][call]
        target[call] = target.get(call, 0.0) + rate
    engines = dict(mix.engines)
    for kind in dict.fromkeys((*(source for source, _, _ in move.parts), move.target)):
        engines[kind] = fewest(kind, rates[kind], capacities, engines.get(kind, 1)) if rates[kind] else 0
    return Mix(
        {kind: count for kind, count in engines.items() if count}, {kind: of for kind, of in rates.items() if of}
    )


def fewest(kind: EngineKind, rates: Mapping[CallClass, float], capacities: Capacities, guess: int = 1) -> int:
    """Engines of the kind, each with an equal part of the rates, that keep the bounds; absurdly many where none do."""

    def keeps(engines: int) -> bool:
        return capacities.keeps(kind, {call: rate / engines for call, rate in rates.items()})

    high = max(1, guess)
    low, step = (high - 1, 1) if keeps(high) else (high, 0)
    while step and low > 0 and keeps(low):
        high, step = low, 2 * step
        low = max(0, high - step)
    while not step and high < _MOST_ENGINES:
        low, high = high, 2 * high
        if keeps(high):
            break
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def allowed(mix: Mix, at_most: Mapping[str, int]) -> bool:
    """Whether it has no more GPUs of a kind than there may be."""
    return all(
        sum(count * kind.gpus for kind, count in mix.engines.items() if kind.gpu.name == gpu) <= most
        for gpu, most in at_most.items()
    )
