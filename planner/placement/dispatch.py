"""From who shall run what, and when, to an order in which nobody waits for work while other work of theirs is ready.

Engines and micro-batches in virtual time. An engine that is free takes, of what is ready for it, what is planned
earliest; work whose model it would have to load counts as planned that much later. It waits for planned work of the
model it has rather than loading another for little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from planner.placement.replay import Piece, Shop

_FREE, _ENDED = 0, 1


@dataclass(frozen=True, slots=True)
class Agenda:
    """`engine[o][b]` runs micro-batch `b` of operator `o`, planned for `at_s[o][b]`.

    A load counts `patience` times its seconds when it is weighed against work that needs none.
    """

    engine: Sequence[Sequence[int]]
    at_s: Sequence[Sequence[float]]
    patience: float = 1.0


def dispatched(shop: Shop, agenda: Agenda) -> list[Piece]:
    """All micro-batches in the order in which they start."""
    return _Dispatch(shop, agenda).run()


class _Dispatch:
    def __init__(self, shop: Shop, agenda: Agenda) -> None:
        problem, models = shop.problem, len(shop.problem.models) + 1  # the last: none
        self._shop, self._agenda = shop, agenda
        self._ready: list[list[list[tuple[float, int, int]]]] = [[[] for _ in range(models)] for _ in problem.engines]
        self._ready_s = [[0.0] * models for _ in problem.engines]
        self._left = [[0] * models for _ in problem.engines]
        for o, row in enumerate(agenda.engine):
            for g in row:
                self._left[g][shop.model_of[o]] += 1
        self._waits = [[len(parents)] * problem.batches for parents in shop.parents]
        self._resident = [list(engine.resident) for engine in problem.engines]
        self._idle = [True] * len(problem.engines)
        self._events: list[tuple[float, int, int, int]] = []
        self._pieces: list[Piece] = []

    def run(self) -> list[Piece]:
        batches = self._shop.problem.batches
        roots = [o for o, parents in enumerate(self._shop.parents) if not parents]
        self._start({self._make_ready(o, batch) for o in roots for batch in range(batches)}, 0.0)
        total = batches * len(self._shop.parents)
        while len(self._pieces) < total:
            if self._events:
                self._next_moment()
            else:
                self._load_for_first()
        return self._pieces

    def _next_moment(self) -> None:
        now, touched = self._events[0][0], set[int]()
        while self._events and self._events[0][0] <= now:
            _, what, one, other = heappop(self._events)
            if what == _FREE:
                self._idle[one] = True
                touched.add(one)
            else:
                touched.update(self._release(one, other))
        self._start(touched, now)

    def _release(self, o: int, batch: int) -> list[int]:
        released: list[int] = []
        for child in self._shop.children[o]:
            self._waits[child][batch] -= 1
            if not self._waits[child][batch]:
                released.append(self._make_ready(child, batch))
        return released

    def _make_ready(self, o: int, batch: int) -> int:
        g, model = self._agenda.engine[o][batch], self._shop.model_of[o]
        heappush(self._ready[g][model], (self._agenda.at_s[o][batch], batch, o))
        self._ready_s[g][model] += self._shop.piece_s[o][g]
        return g

    def _start(self, engines: set[int], now: float) -> None:
        for g in sorted(engines):
            if self._idle[g]:
                self._start_one(g, now)

    def _start_one(self, g: int, now: float) -> None:
        best, model = self._first(g)
        if best is None:
            return
        if model < 0 or model in self._resident[g]:
            self._begin(g, model, now)
        elif self._pays(g, model, best):
            self._load(g, model, now)

    def _first(self, g: int) -> tuple[float | None, int]:
        """What is planned earliest of what is ready, loads counted; and its model."""
        best: float | None = None
        found = -1
        resident, load_s, patience = self._resident[g], self._shop.load_s[g], self._agenda.patience
        for index, heap in enumerate(self._ready[g]):
            if not heap:
                continue
            model = index if index < len(load_s) else -1
            at = heap[0][0] if model < 0 or model in resident else heap[0][0] + patience * load_s[model]
            if best is None or at < best:
                best, found = at, model
        return best, found

    def _begin(self, g: int, model: int, now: float) -> None:
        shop = self._shop
        _, batch, o = heappop(self._ready[g][model])
        self._ready_s[g][model] -= shop.piece_s[o][g]
        self._left[g][model] -= 1
        end = now + shop.piece_s[o][g]
        self._idle[g] = False
        self._pieces.append((o, batch, g))
        heappush(self._events, (end, _FREE, g, 0))
        heappush(self._events, (end + shop.lag_s[o][g], _ENDED, o, batch))

    def _pays(self, g: int, model: int, planned: float) -> bool:
        """Whether to load now: nothing of what is there has work to come, or enough is ready for the new one."""
        if not any(self._left[g][m] for m in self._resident[g]):
            return True
        return self._ready_s[g][model] >= self._agenda.patience * self._shop.load_s[g][model]

    def _load(self, g: int, model: int, now: float) -> None:
        shop, resident = self._shop, self._resident[g]
        room = shop.room[g] - shop.weight[model] - sum(shop.weight[m] for m in resident)
        for m in sorted(resident, key=lambda m: bool(self._left[g][m])):
            if room >= 0:
                break
            resident.remove(m)
            room += shop.weight[m]
        resident.append(model)
        self._idle[g] = False
        heappush(self._events, (now + shop.load_s[g][model], _FREE, g, 0))

    def _load_for_first(self) -> None:
        """Everybody waits for more work than will come: the one whose work is planned first loads for it."""
        waiting = [(first[0], g, first[1]) for g in range(len(self._idle)) if (first := self._first(g))[0] is not None]
        _, g, model = min(waiting)
        self._load(g, model, 0.0)
