"""Who gives way first when room is wanted."""

import heapq
from collections.abc import Callable, Iterator

from halo_vllm.policy.give_back import Holding, Order
from halo_vllm.program import Program


class GivingWay:
    """Programs in `order`, which their rank, as it was looked at last, decides. Whoever looks at one again calls
    `changed`: an entry of the heap that is not the program's newest counts for nothing.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._heap: list[tuple[tuple[float, ...], int, Program]] = []
        self._passed: list[tuple[tuple[float, ...], int, Program]] = []
        self._moved: dict[str, Program] = {}
        self._number = self._here = 0

    def entered(self) -> None:
        """One program more, which has no place until that is told by `changed`."""
        self._here += 1

    def changed(self, program: Program) -> None:
        """Its rank is another, or it is new. It gets its place when somebody asks who is first: most often nobody
        does before it is changed again, or has left."""
        self._moved[program.key] = program
        program.place = 0

    def left(self, program: Program) -> None:
        self._moved.pop(program.key, None)
        self._here -= 1
        program.place = 0

    def first(self, look_again: Callable[[Program], bool]) -> Iterator[Program]:
        """The first first; those whose next call is here already come last. `look_again` looks at a program's rank
        where that was long ago; whether it did."""
        for entry in self._passed:
            heapq.heappush(self._heap, entry)
        self._passed = []
        self._place_moved()
        pending = []
        while self._heap:
            entry = heapq.heappop(self._heap)
            program = entry[2]
            if program.place != entry[1]:
                continue
            if look_again(program):
                self._place(program)
                continue
            self._passed.append(entry)
            if program.pending:
                pending.append(program)
            else:
                yield program
        yield from pending

    def _place_moved(self) -> None:
        if len(self._heap) > 4 * self._here + 64:
            self._clear_away()
        for program in self._moved.values():
            self._place(program)
        self._moved.clear()

    def _place(self, program: Program) -> None:
        self._number += 1
        program.place = self._number
        heapq.heappush(self._heap, (self._order(holding_of(program)), self._number, program))

    def _clear_away(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].place == entry[1]]
        heapq.heapify(self._heap)


def holding_of(program: Program) -> Holding:
    assert program.waiting is not None
    assert program.retention is not None
    own, rank = program.waiting.own_blocks, program.retention.rank
    return Holding(program.key, own, rank, program.sequence, program.tenant, turn_waiting=bool(program.pending))
