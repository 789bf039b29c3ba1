"""The calls that wait in the engine, in the order vLLM takes them up, and who of those that run gives way."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Protocol

from executor.engines.model.call import Call, Id


class Line(Protocol[Id]):
    """Bodies: `FirstCome`, `ByKey`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Call[Id]]: ...

    def push(self, call: Call[Id]) -> None: ...

    def put_back(self, call: Call[Id]) -> None:
        """It ran, and gave its blocks back."""
        ...

    def first(self) -> Call[Id]:
        """Who is taken up next; there must be one."""
        ...

    def remove(self, call: Call[Id]) -> None: ...

    def gives_way(self, running: Sequence[Call[Id]]) -> int:
        """Of these, the index of the one whose blocks go to others."""
        ...


class FirstCome(Line[Id]):
    """vLLM's own order: who came first; who had to start again goes before all."""

    def __init__(self) -> None:
        self._calls: deque[Call[Id]] = deque()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call[Id]]:
        return iter(self._calls)

    def push(self, call: Call[Id]) -> None:
        self._calls.append(call)

    def put_back(self, call: Call[Id]) -> None:
        self._calls.appendleft(call)

    def first(self) -> Call[Id]:
        return self._calls[0]

    def remove(self, call: Call[Id]) -> None:
        if call is self._calls[0]:
            self._calls.popleft()
        else:
            self._calls.remove(call)

    def gives_way(self, running: Sequence[Call[Id]]) -> int:
        return len(running) - 1


class ByKey(Line[Id]):
    """The smallest `key` first, as it is when a call joins; the greatest gives way."""

    def __init__(self, key: Callable[[Call[Id]], tuple[float, ...]]) -> None:
        self._key = key
        self._calls: list[tuple[tuple[float, ...], int, Call[Id]]] = []
        self._pushed = count()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call[Id]]:
        return (entry[-1] for entry in sorted(self._calls))

    def push(self, call: Call[Id]) -> None:
        heapq.heappush(self._calls, (self._key(call), next(self._pushed), call))

    def put_back(self, call: Call[Id]) -> None:
        self.push(call)

    def first(self) -> Call[Id]:
        return self._calls[0][-1]

    def remove(self, call: Call[Id]) -> None:
        if call is self._calls[0][-1]:
            heapq.heappop(self._calls)
            return
        self._calls = [entry for entry in self._calls if entry[-1] is not call]
        heapq.heapify(self._calls)

    def gives_way(self, running: Sequence[Call[Id]]) -> int:
        return max(range(len(running)), key=lambda index: (self._key(running[index]), index))


def by_priority(call: Call[Any]) -> tuple[float, ...]:
    """As with `--scheduling-policy priority`: the smallest number first, then who came first."""
    return call.priority, call.submitted_at
