"""Large-neighbourhood search over orders: take part of a schedule away, have it put back greedily, keep the better.

Each round frees the engines of some micro-batches (those of an operator, of a stretch of time, of the engine that ends
last), or moves an operator forward or back, and evaluates the outcome. Rounds are counted and, with a clock, timed:
without a clock the same problem and seed always give the same schedule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from planner.placement.dispatch import Agenda, dispatched
from planner.placement.replay import ANY, Piece, Shop
from planner.placement.schedule import Run, Schedule

_STRETCH = (0.03, 0.3)  # of the makespan
_SHIFT = 0.15
_WORSE = 0.1  # by up to this share a step may be, to leave what is best nearby
_NUDGED = (0.0, 0.02, 0.3)  # shares of all micro-batches
_PATIENCE = (0.0, 0.5, 1.0, 3.0)
#: Shares of the makespan between which engines are freed first: where pipelines drain, and where they fill.
_OPENING = ((0.9, 1.0), (0.8, 1.0), (0.65, 1.0), (0.5, 1.0), (0.35, 1.0), (0.2, 1.0), (0.0, 0.1))


@dataclass(frozen=True, slots=True)
class Budget:
    """When to end: after `rounds` at the latest, and where there is a clock, not long after `seconds` on it."""

    rounds: int = 1000
    seconds: float = 0.1
    clock: Callable[[], float] | None = None

    def begun(self) -> "Countdown":
        return Countdown(self)


class Countdown:
    """A budget that is being spent."""

    def __init__(self, budget: Budget) -> None:
        self._clock, self._left = budget.clock, budget.rounds
        self._seconds = budget.seconds
        self._until = budget.clock() + budget.seconds if budget.clock else 0.0

    def spent(self) -> bool:
        """Whether no further round may begin; asking takes one away."""
        self._left -= 1
        return self._left < 0 or self.late()

    def late(self, kept: float = 0.0) -> bool:
        """Whether no more than this share of the time is left; never without a clock."""
        return self._clock is not None and self._clock() >= self._until - kept * self._seconds


def improved(shop: Shop, schedule: Schedule, countdown: Countdown, seed: int, good_s: float = 0.0) -> Schedule:
    """The best schedule found from `schedule` on; nothing is looked for below a makespan of `good_s`."""
    search = _Search(shop, schedule, np.random.default_rng(seed))
    while search.best.makespan_s > good_s and not countdown.spent():
        search.round()
    return search.best


def drained(shop: Shop, schedule: Schedule, shares: Sequence[float], late: Callable[[], bool]) -> Schedule:
    """With engines chosen anew from each of these shares of the makespan on, where that ends earlier, until it is late.

    Most is to be gained where pipelines drain.
    """
    best = schedule
    for start in shares:
        if late():
            break
        best = shop.replay_within(_freed(_in_time(best), start * best.makespan_s, inf), best.makespan_s) or best
    return best


class _Search:
    def __init__(self, shop: Shop, schedule: Schedule, random: np.random.Generator) -> None:
        self._shop, self._random = shop, random
        self._moves = (
            self._free_stretch,
            self._free_operator,
            self._free_last,
            self._shift,
            self._close_gaps,
            self._gather,
            self._nudge,
            self._nudge,
        )
        self._opening = list(_OPENING)
        self._here = self.best = schedule
        self._here_in_time = _in_time(schedule)

    def round(self) -> None:
        pieces = self._free_share(*self._opening.pop(0)) if self._opening else self._any_move()()
        most_s = self.best.makespan_s * (1 + _WORSE * self._random.random() ** 2)
        found = self._shop.replay_within(pieces, most_s)
        if found is None:
            return
        self._here, self._here_in_time = found, _in_time(found)
        if found.makespan_s <= self.best.makespan_s:
            self.best = found

    def _any_move(self) -> Callable[[], list[Piece]]:
        return self._moves[int(self._random.integers(len(self._moves)))]

    def _free_share(self, start: float, end: float) -> list[Piece]:
        """What starts between these shares of the makespan."""
        first, last = start * self._here.makespan_s, end * self._here.makespan_s
        return _freed(self._here_in_time, first, last)

    def _free_stretch(self) -> list[Piece]:
        """A stretch of time, on all engines or on some."""
        length = self._here.makespan_s * self._random.uniform(*_STRETCH)
        start = self._random.uniform(-length / 2, self._here.makespan_s)
        some = self._random.random(len(self._shop.room)) < self._random.choice((0.3, 0.6, 1.0))
        return [
            (run.operator, run.batch, ANY if start <= run.start_s < start + length and some[run.engine] else run.engine)
            for run in self._here_in_time
        ]

    def _free_operator(self) -> list[Piece]:
        o = self._any_operator()
        share = self._random.choice((0.1, 0.5, 1.0))
        return [
            (r.operator, r.batch, ANY if r.operator == o and self._random.random() < share else r.engine)
            for r in self._here_in_time
        ]

    def _free_last(self) -> list[Piece]:
        """From some point on, what runs on the engine that ends last."""
        last = max(self._here.runs, key=lambda run: run.end_s + self._shop.lag_s[run.operator][run.engine]).engine
        start = self._random.uniform(0, self._here.makespan_s)
        return [
            (run.operator, run.batch, ANY if run.engine == last and run.start_s >= start else run.engine)
            for run in self._here_in_time
        ]

    def _shift(self) -> list[Piece]:
        """An operator, all of it or from some micro-batch on, earlier or later."""
        o, first = self._any_operator(), int(self._random.integers(self._shop.problem.batches))
        by = self._random.normal(0, _SHIFT) * self._here.makespan_s
        free = self._random.random() < 0.5
        at: list[list[float]] = [[0.0] * self._shop.problem.batches for _ in self._shop.parents]
        engines = [[ANY] * self._shop.problem.batches for _ in self._shop.parents]
        for run in self._here.runs:
            moved = run.operator == o and run.batch >= first
            at[run.operator][run.batch] = run.start_s + by * moved
            engines[run.operator][run.batch] = ANY if moved and free else run.engine
        return in_order(self._shop, at, engines)

    def _nudge(self) -> list[Piece]:
        """Some micro-batches, few of them, to any engine or to any time: for what only the small moves reach."""
        at: list[list[float]] = [[0.0] * self._shop.problem.batches for _ in self._shop.parents]
        engines = [[ANY] * self._shop.problem.batches for _ in self._shop.parents]
        share = max(1.5 / len(self._here.runs), self._random.choice(_NUDGED))
        for run in self._here.runs:
            o, at_s, engine = run.operator, run.start_s, run.engine
            if self._random.random() < share:
                at_s += self._random.normal(0, 0.5) * self._here.makespan_s * self._random.integers(2)
                engine = self._shop.able[o][int(self._random.integers(len(self._shop.able[o])))]
            at[o][run.batch], engines[o][run.batch] = at_s, engine
        return in_order(self._shop, at, engines)

    def _close_gaps(self) -> list[Piece]:
        """The same engines, none of which waits while it could do what comes later."""
        return self._dispatched(-1, ())

    def _gather(self) -> list[Piece]:
        """All of an operator, or all that one engine has of it, on one engine."""
        o = self._any_operator()
        able = self._shop.able[o]
        taken = sorted({run.engine for run in self._here.runs if run.operator == o})
        some = taken if self._random.random() < 0.5 else [taken[int(self._random.integers(len(taken)))]]
        return self._dispatched(o, some, able[int(self._random.integers(len(able)))])

    def _dispatched(self, o: int, taken: Sequence[int], given: int = ANY) -> list[Piece]:
        """What runs at the same times, but all of `o` that engines in `taken` have now on the engine `given`."""
        at: list[list[float]] = [[0.0] * self._shop.problem.batches for _ in self._shop.parents]
        engines = [[0] * self._shop.problem.batches for _ in self._shop.parents]
        for run in self._here.runs:
            at[run.operator][run.batch] = run.start_s
            moves = run.operator == o and run.engine in taken
            engines[run.operator][run.batch] = given if moves else run.engine
        return dispatched(self._shop, Agenda(engines, at, float(self._random.choice(_PATIENCE))))

    def _any_operator(self) -> int:
        return int(self._random.integers(len(self._shop.parents)))


def _freed(runs: Sequence[Run], first_s: float, last_s: float) -> list[Piece]:
    """Any engine for what starts between these times."""
    return [(run.operator, run.batch, ANY if first_s <= run.start_s < last_s else run.engine) for run in runs]


def _in_time(schedule: Schedule) -> list[Run]:
    return sorted(schedule.runs, key=lambda run: (run.start_s, run.operator, run.batch))


def in_order(shop: Shop, at_s: Sequence[Sequence[float]], engines: Sequence[Sequence[int]]) -> list[Piece]:
    """All micro-batches by the time planned for them, but none before its parents."""
    late = [list(row) for row in at_s]
    for o, parents in enumerate(shop.parents):
        row = late[o]
        for parent in parents:
            row = [max(own, before) for own, before in zip(row, late[parent], strict=True)]
        late[o] = row
    keys = [(at, o, batch) for o, row in enumerate(late) for batch, at in enumerate(row)]
    return [(o, batch, engines[o][batch]) for _, o, batch in sorted(keys)]
