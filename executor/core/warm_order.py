"""The ready calls of one job in the order in which one engine should take them."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from executor.core.fleet import Fleet
from executor.core.life import Life
from executor.core.work import Work
from executor.policy.ordering import CallRank
from kvstore.prefix_index import BlockName
from planner.ir.ids import EngineId


@dataclass(slots=True, eq=False)
class Ready:
    """A call that waits for an engine. `left_s` is what its program still takes, `arrival` counts those that came
    before it. Once it is `near`, it can be chosen; `entered` counts the calls of its job sent before that."""

    work: Work
    pool: str
    left_s: float
    arrival: int
    queued: int = 0
    near: bool = False
    entered: int = 0
    gone: bool = False
    candidates: "list[_Candidate]" = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """False when it was sent or dropped: then it is passed over wherever it still stands."""
        return not self.gone and self.work.life is Life.QUEUED and self.work.queued == self.queued

    def leave(self) -> None:
        self.gone = True
        for candidate in self.candidates:
            candidate.unwatch()
        self.candidates.clear()  # a cycle: thousands of works would wait for the garbage collector


#: Whether a call may go to an engine, by what its conversation has room in.
MayEnter = Callable[[Work, EngineId], bool]


def anywhere(_work: Work, _engine: EngineId) -> bool:
    return True


class WarmOrder:
    """The longest warm beginning first. Ranks are bounds, looked at again when they come to the top (lazy greedy,
    Minoux 1978): what was evicted meanwhile makes a rank worse, and is found then; what became warm makes it better,
    and is told by the engine's cache, where each call watches its first cold block."""

    def __init__(self, engine: EngineId, fleet: Fleet[Work], may_enter: MayEnter = anywhere) -> None:
        self.engine = engine
        self._may_enter = may_enter
        self.fleet = fleet
        self.cache = fleet.caches[engine]
        self._heap: list[tuple[CallRank, int, _Candidate]] = []
        self._pushed = 0

    def add(self, ready: Ready) -> None:
        candidate = _Candidate(self, ready)
        ready.candidates.append(candidate)
        self.push(candidate)

    def push(self, candidate: "_Candidate") -> None:
        """Rank the call by what is warm now, and watch for more."""
        candidate.unwatch()
        rank = candidate.rank()
        self._pushed += 1
        heapq.heappush(self._heap, (rank, self._pushed, candidate))
        candidate.watch(-rank.cold)

    def first(self) -> Ready | None:
        """The call to take next; it stays here until it is sent."""
        held: list[tuple[CallRank, int, _Candidate]] = []
        found = None
        while found is None and self._heap:
            rank, _, candidate = self._heap[0]
            ready = candidate.ready
            if not ready.waits:
                heapq.heappop(self._heap)
            elif candidate.fell_below(rank):
                heapq.heappop(self._heap)
                self.push(candidate)
            elif self.cache.comes_warm(ready.work.prefix) or not self._may_enter(ready.work, self.engine):
                held.append(heapq.heappop(self._heap))
            else:
                found = ready
        for entry in held:
            heapq.heappush(self._heap, entry)
        return found

    def close(self) -> None:
        """Let go of all: each call that was ranked here knows this order, a cycle."""
        self._heap.clear()

    def tidy(self, most: int) -> None:
        """Let go of calls that left, where they are many."""
        if len(self._heap) > most:
            self._heap = [entry for entry in self._heap if entry[2].ready.waits]
            heapq.heapify(self._heap)


@dataclass(slots=True, eq=False)
class _Candidate:
    """A ready call as one engine sees it."""

    order: WarmOrder
    ready: Ready
    watched: BlockName | None = None

    def rank(self) -> CallRank:
        ready = self.ready
        warm = self.order.cache.match(ready.work.prefix)
        elsewhere = self._warmer_elsewhere(warm)
        return CallRank(-warm, elsewhere, -ready.left_s, ready.work.program.order.position, ready.arrival)

    def fell_below(self, rank: CallRank) -> bool:
        """Whether less is warm for the call than when it was ranked so, here or compared with other engines."""
        blocks = self.ready.work.prefix
        warm = self.order.cache.match(blocks)
        if warm != -rank.cold or self.ready.work.program.order.position != rank.position:
            return self.rank() > rank
        return not rank.elsewhere and self._warmer_elsewhere(warm)

    def _warmer_elsewhere(self, warm: int) -> bool:
        order = self.order
        return order.fleet.warmer_elsewhere(order.engine, self.ready.pool, self.ready.work.prefix, warm)

    def watch(self, warm: int) -> None:
        blocks = self.ready.work.prefix
        if warm < len(blocks):
            self.watched = blocks[warm]
            self.order.cache.watch(self.watched, self)

    def unwatch(self) -> None:
        if self.watched is not None:
            self.order.cache.unwatch(self.watched, self)
            self.watched = None

    def warmed(self) -> None:
        self.watched = None
        self.order.push(self)
