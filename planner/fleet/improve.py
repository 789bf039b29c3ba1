"""A mix made cheaper by moving parts of classes between kinds, each kind with as few engines as its queues allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.fleet.capacity import Capacities
from planner.fleet.kinds import EngineKind
from planner.fleet.mix_values import Mix
from planner.fleet.workload import CallClass

Given = dict[EngineKind, dict[CallClass, float]]

_PARTS = (1.0, 0.5, 0.25)
#: Kinds that are asked about each class: those on which it costs least.
_TARGETS = 6
#: A search of so many moves tried takes about a second.
_MOST_TRIED = 600
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class _Move:
    """So many calls of the class in a second, of each of those that have them, to another kind."""

    call: CallClass
    taken: Mapping[EngineKind, float]
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
        if found.usd_per_hour < mix.usd_per_hour - _NOTHING and _allowed(found, at_most):
            return found, tried
    return None, tried


def _moves(mix: Mix, kinds: Sequence[EngineKind], capacities: Capacities) -> Iterator[_Move]:
    """All of a class to one kind, or a part of what one kind has of it."""
    for call in dict.fromkeys(call for rates in mix.rates.values() for call in rates):
        having = {kind: rates[call] for kind, rates in mix.rates.items() if call in rates}
        for target in _targets(call, kinds, capacities):
            others = {kind: rate for kind, rate in having.items() if kind != target}
            if len(others) > 1:
                yield _Move(call, others, target)
            for kind, rate in others.items():
                yield from (_Move(call, {kind: rate * part}, target) for part in _PARTS)


def _targets(call: CallClass, kinds: Sequence[EngineKind], capacities: Capacities) -> Sequence[EngineKind]:
    able = [kind for kind in kinds if kind.only is None and capacities.calls_per_s(kind, call) > 0]
    return sorted(able, key=lambda kind: kind.usd_per_hour / capacities.calls_per_s(kind, call))[:_TARGETS]


def _after(mix: Mix, move: _Move, capacities: Capacities) -> Mix:
    rates: Given = {kind: dict(of_kind) for kind, of_kind in mix.rates.items()}
    for kind, rate in move.taken.items():
        rates[kind][move.call] -= rate
        if rates[kind][move.call] <= _NOTHING:
            del rates[kind][move.call]
    target = rates.setdefault(move.target, {})
    target[move.call] = target.get(move.call, 0.0) + sum(move.taken.values())
    engines = dict(mix.engines)
    for kind in (*move.taken, move.target):
        engines[kind] = fewest(kind, rates[kind], capacities, engines.get(kind, 1)) if rates[kind] else 0
    return Mix(
        {kind: count for kind, count in engines.items() if count}, {kind: of for kind, of in rates.items() if of}
    )


def fewest(kind: EngineKind, rates: Mapping[CallClass, float], capacities: Capacities, guess: int = 1) -> int:
    """Engines of the kind, each with an equal part of the rates, that keep the bounds. The kind can do each class."""

    def keeps(engines: int) -> bool:
        return capacities.keeps(kind, {call: rate / engines for call, rate in rates.items()})

    low, high = 0, max(1, guess)
    while not keeps(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2 if low else high - 1
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _allowed(mix: Mix, at_most: Mapping[str, int]) -> bool:
    return all(
        sum(count * kind.gpus for kind, count in mix.engines.items() if kind.gpu.name == gpu) <= most
        for gpu, most in at_most.items()
    )
