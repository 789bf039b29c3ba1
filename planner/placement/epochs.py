"""The published rule of Halo v2 (arXiv 2509.02121, released as `optimizers/dp.py`): one GPU per operator, in epochs.

An epoch runs a set of operators whose parents are done or in the set, as many as there are GPUs or one fewer, each on a
GPU of its own; dynamic programming over the sets of finished operators finds the epochs of least cost. The cost of an
epoch is `1 + 0.1 e + 0.9 max L + 0.1 sum L + depths`, with `L` what a GPU takes: the operator's work, 0.9 of it where
the GPU has just run a parent, and the load of a model it does not have. The epochs give priorities, not barriers, and
rows run in two micro-batches, as released.

In its favour: seconds are those of our cost model, where the released one has hardly any difference between models, and
they are those of each GPU. With more than four GPUs, which operator goes to which is found by exchange, not enumerated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, permutations
from math import comb, inf

from planner.placement.dispatch import Agenda, dispatched
from planner.placement.problem import Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Schedule

_MICRO_BATCHES = 2
_ENUMERATED = 4  # GPUs
_MOST_STATES = 20_000


def epoch_rule(problem: Problem, seed: int) -> Schedule:
    """As released: two micro-batches."""
    return fine_epoch_rule(replace(problem, batches=min(_MICRO_BATCHES, problem.batches)), seed)


def fine_epoch_rule(problem: Problem, seed: int) -> Schedule:
    """The same epochs, with rows pipelined in the problem's own micro-batches."""
    shop = Shop(problem)
    return shop.replay(dispatched(shop, epochs_agenda(problem)))


def epochs_agenda(problem: Problem, most_states: int = _MOST_STATES) -> Agenda:
    """The epochs as an agenda; after so many sets of finished operators, each next epoch is the cheapest by itself."""
    epochs = _Epochs(problem, most_states).best()
    placed = {o: (number, g) for number, epoch in enumerate(epochs) for o, g in epoch}
    engines: list[list[int]] = []
    at_s: list[list[float]] = []
    for o, operator in enumerate(problem.operators):
        before = max((at_s[parent][0] for parent in operator.parents), default=0.0)
        number, g = placed.get(o, (before, _pool(problem, o)))
        engines.append([g] * problem.batches)
        at_s.append([float(number)] * problem.batches)
    return Agenda(engines, at_s, patience=0.0)


def epoch_choices(problem: Problem) -> int:
    """How many sets of operators the widest epoch is chosen from: what looking for epochs costs."""
    asking = sum(operator.model is not None for operator in problem.operators)
    engines = sum(min(engine.load_s, default=inf) < inf for engine in problem.engines)
    return comb(asking, min(asking // 2, engines))


def _pool(problem: Problem, o: int) -> int:
    return next(g for g in range(len(problem.engines)) if problem.can_run(o, g))


#: Which operator runs on which engine in one epoch.
_Epoch = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _State:
    """What is done, and the last operator of each engine; -1 before the first."""

    done: frozenset[int]
    last: tuple[int, ...]


class _Epochs:
    def __init__(self, problem: Problem, most_states: int) -> None:
        self._problem, self._most_states = problem, most_states
        self._asking = [o for o, operator in enumerate(problem.operators) if operator.model is not None]
        self._engines = [g for g, engine in enumerate(problem.engines) if min(engine.load_s, default=inf) < inf]
        self._before = [self._asked_before(o) for o in range(len(problem.operators))]
        self._states = 0
        self._best = lru_cache(maxsize=None)(self._from)

    def best(self) -> list[_Epoch]:
        state, epochs = _State(frozenset(), (-1,) * len(self._problem.engines)), list[_Epoch]()
        while len(state.done) < len(self._asking):
            _, epoch = self._best(state, len(epochs))
            epochs.append(epoch)
            state = _after(state, epoch)
        return epochs

    def _asked_before(self, o: int) -> frozenset[int]:
        """The nearest ancestors that ask a model: tools run whenever they can."""
        found: set[int] = set()
        for parent in self._problem.operators[o].parents:
            found |= {parent} if self._problem.operators[parent].model is not None else self._asked_before(parent)
        return frozenset(found)

    def _from(self, state: _State, number: int) -> tuple[float, _Epoch]:
        """The least cost of all that is left, and the first epoch of it; when there is too much, the next epoch's."""
        self._states += 1
        if len(state.done) == len(self._asking):
            return 0.0, ()
        best: tuple[float, _Epoch] = (inf, ())
        for epoch in self._choices(state):
            cost = self._cost(state, epoch, number)
            if cost < best[0] and self._states < self._most_states:
                cost += self._best(_after(state, epoch), number + 1)[0]
            best = min(best, (cost, epoch))
        return best

    def _choices(self, state: _State) -> Iterator[_Epoch]:
        pending = [o for o in self._asking if o not in state.done]
        most = min(len(self._engines), len(pending))
        found = [epoch for size in (most, most - 1) if size for epoch in self._of_size(state, pending, size)]
        while not found:
            most -= 1
            found = list(self._of_size(state, pending, most))
        yield from found

    def _of_size(self, state: _State, pending: Sequence[int], size: int) -> Iterator[_Epoch]:
        for chosen in combinations(pending, size):
            if all(self._before[o] <= state.done | set(chosen) for o in chosen):
                yield from self._placed(state, chosen)

    def _placed(self, state: _State, chosen: Sequence[int]) -> Iterator[_Epoch]:
        if len(self._engines) <= _ENUMERATED:
            for engines in permutations(self._engines, len(chosen)):
                if all(self._problem.can_run(o, g) for o, g in zip(chosen, engines, strict=True)):
                    yield tuple(zip(chosen, engines, strict=True))
            return
        found = self._exchanged(state, chosen)
        if found is not None:
            yield found

    def _exchanged(self, state: _State, chosen: Sequence[int]) -> _Epoch | None:
        """The longest first to where it is shortest, then exchanges of two while they lower the epoch's cost."""
        free, placed = list(self._engines), dict[int, int]()
        for o in sorted(chosen, key=lambda o: (-self._shortest(o), o)):
            able = [g for g in free if self._problem.can_run(o, g)]
            if not able:
                return None
            placed[o] = min(able, key=lambda g: (self._takes(state, o, g), g))
            free.remove(placed[o])
        best = tuple(sorted(placed.items()))
        cost = self._cost(state, best, 0)
        while True:
            nearby = [(self._cost(state, epoch, 0), epoch) for epoch in self._exchanges(best)]
            least, epoch = min(nearby, default=(inf, best))
            if least >= cost:
                return best
            cost, best = least, epoch

    def _exchanges(self, epoch: _Epoch) -> Iterator[_Epoch]:
        placed = dict(epoch)
        free = [g for g in self._engines if g not in placed.values()]
        for o, g in epoch:
            for other in free:
                if self._problem.can_run(o, other):
                    yield tuple(sorted((placed | {o: other}).items()))
            for p, h in epoch:
                if o < p and self._problem.can_run(o, h) and self._problem.can_run(p, g):
                    yield tuple(sorted((placed | {o: h, p: g}).items()))

    def _shortest(self, o: int) -> float:
        return min(self._problem.operators[o].work_s[g] for g in self._engines if self._problem.can_run(o, g))

    def _takes(self, state: _State, o: int, g: int) -> float:
        operator, last = self._problem.operators[o], state.last[g]
        model = operator.model
        assert model is not None
        held = (self._problem.operators[last].model,) if last >= 0 else self._problem.engines[g].resident
        load_s = 0.0 if model in held else self._problem.engines[g].load_s[model]
        return operator.work_s[g] * (0.9 if last in self._before[o] else 1.0) + load_s

    def _cost(self, state: _State, epoch: _Epoch, number: int) -> float:
        takes = [self._takes(state, o, g) for o, g in epoch]
        chosen = {o for o, _ in epoch}
        return 1 + 0.1 * number + 0.9 * max(takes) + 0.1 * sum(takes) + sum(self._depth(o, chosen) for o in chosen)

    def _depth(self, o: int, chosen: set[int]) -> int:
        """How many of the same epoch stand before it in a row."""
        return max((1 + self._depth(before, chosen) for before in self._before[o] if before in chosen), default=0)


def _after(state: _State, epoch: _Epoch) -> _State:
    last = list(state.last)
    for o, g in epoch:
        last[g] = o
    return _State(state.done | {o for o, _ in epoch}, tuple(last))
