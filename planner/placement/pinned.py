"""Each operator whole on one engine: exchange over which, where lags rule and engines switch more than they share.

What is moved is an operator, or two that exchange engines, in few micro-batches; so a thousand placements are looked at
in the time one schedule in many micro-batches takes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from planner.placement.bound import tails
from planner.placement.dispatch import Agenda, dispatched
from planner.placement.problem import Problem
from planner.placement.replay import Shop

_BATCHES = 4
_PATIENCE = (0.0, 1.0)
_TWO = 0.4  # of the moves are of two operators
_WORSE = 0.05  # by up to this share a step may be


class PinnedSearch:
    """From each operator on its quickest engine on; the same problem, seed and rounds always give the same."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._random, self._batches = np.random.default_rng(seed), problem.batches
        self._shop = Shop(replace(problem, batches=min(_BATCHES, problem.batches)))
        self._at = [-min(row) for row in tails(problem)]
        self._here = self._best = [min(able, key=row.__getitem__) for able, row in self._rows()], _PATIENCE[0]
        self._best_s = self._takes(*self._best)

    def improve(self, rounds: int, late: Callable[[], bool]) -> None:
        """Looks at as many more placements; none when it is late."""
        for _ in range(rounds):
            if late():
                return
            self._round()

    def agenda(self) -> Agenda:
        """The best placement found, in the problem's own micro-batches."""
        return self._agenda(*self._best, self._batches)

    def _round(self) -> None:
        there = self._moved(), float(self._random.choice(_PATIENCE))
        takes = self._takes(*there)
        if takes <= self._best_s * (1 + _WORSE * self._random.random() ** 2):
            self._here = there
        if takes < self._best_s:
            self._best, self._best_s = there, takes

    def _rows(self) -> Iterator[tuple[list[int], list[float]]]:
        return zip(self._shop.able, self._shop.piece_s, strict=True)

    def _moved(self) -> list[int]:
        chosen = list(self._here[0])
        o = int(self._random.integers(len(chosen)))
        able = self._shop.able[o]
        before, chosen[o] = chosen[o], able[int(self._random.integers(len(able)))]
        if self._random.random() < _TWO:
            p = int(self._random.integers(len(chosen)))
            if before in self._shop.able[p]:
                chosen[p] = before
        return chosen

    def _takes(self, chosen: Sequence[int], patience: float) -> float:
        agenda = self._agenda(chosen, patience, self._shop.problem.batches)
        return self._shop.replay(dispatched(self._shop, agenda)).makespan_s

    def _agenda(self, chosen: Sequence[int], patience: float, batches: int) -> Agenda:
        return Agenda([[g] * batches for g in chosen], [[at] * batches for at in self._at], patience)
