"""Work that is ready and waits for a slot: calls by model, tools by name, and failed work until its time comes."""

import heapq
from itertools import count

from executor.core.life import Life
from executor.core.work import Work
from executor.policy.ordering import QueueKey

_Entry = tuple[QueueKey, int, Work]


class ReadyQueue:
    """Works in program order; among equals, the first to become ready. Works dropped meanwhile are passed over."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._arrivals = count()

    def push(self, work: Work) -> None:
        heapq.heappush(self._heap, (work.program.order, next(self._arrivals), work))

    def first(self) -> Work | None:
        while self._heap and self._heap[0][2].life is not Life.QUEUED:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def pop(self) -> Work:
        return heapq.heappop(self._heap)[2]


class DelayedWork:
    """Works to be queued again, by the instant that is due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Work]] = []
        self._arrivals = count()

    def push(self, work: Work, due: float) -> None:
        heapq.heappush(self._heap, (due, next(self._arrivals), work.attempt, work))

    def due(self, now: float) -> list[Work]:
        ready: list[Work] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, attempt, work = heapq.heappop(self._heap)
            if work.life is Life.DELAYED and work.attempt == attempt:
                ready.append(work)
        return ready


class ToolSlots:
    """How many calls of each tool run, against what its spec allows."""

    def __init__(self) -> None:
        self.queues: dict[str, ReadyQueue] = {}
        self.running: dict[str, int] = {}

    def push(self, work: Work) -> None:
        assert work.tool is not None
        self.queues.setdefault(work.tool.name, ReadyQueue()).push(work)

    def next(self, name: str) -> Work | None:
        """The next work of that tool that may run now; it takes a slot."""
        work = self.queues[name].first()
        if work is None or work.tool is None or self.running.get(name, 0) >= work.tool.most_in_flight:
            return None
        self.running[name] = self.running.get(name, 0) + 1
        return self.queues[name].pop()

    def leave(self, work: Work) -> None:
        assert work.tool is not None
        self.running[work.tool.name] -= 1
