"""What is due in virtual time, and when."""

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

Due = TypeVar("Due")


class Agenda(Generic[Due]):
    """`now` is the instant of what is done just now, in seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Due]] = []

    def put(self, at: float, what: Due) -> None:
        heapq.heappush(self._heap, (at, next(self._order), what))

    def until_empty(self, instant_ends: Callable[[], None]) -> Iterator[Due]:
        """What is due, the earliest first; of one instant, what was put down first. Time goes on to each.

        More may be put down meanwhile. `instant_ends` is called when nothing more is due at an instant.
        """
        while self._heap:
            self.now, _, due = heapq.heappop(self._heap)
            yield due
            if not self._heap or self._heap[0][0] > self.now:
                instant_ends()
