"""Who gives way first when room is wanted."""

import heapq
from collections.abc import Callable, Iterator

from halo_vllm.policy.give_back import Holding, Order
from halo_vllm.program import Branch


class GivingWay:
    """Branches in `order`, which their rank, as it was looked at last, decides. Whoever looks at one again calls
    `changed`: an entry of the heap that is not the branch's newest counts for nothing.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._heap: list[tuple[tuple[float, ...], int, Branch]] = []
        self._passed: list[tuple[tuple[float, ...], int, Branch]] = []
        self._moved: dict[str, Branch] = {}
        self._number = self._here = 0

    def entered(self) -> None:
        """One branch more, which has no place until that is told by `changed`."""
        self._here += 1

    def changed(self, branch: Branch) -> None:
        """Its rank is another, or it is new. It gets its place when somebody asks who is first: most often nobody
        does before it is changed again, or has left."""
        self._moved[branch.key] = branch
        branch.place = 0

    def left(self, branch: Branch) -> None:
        self._moved.pop(branch.key, None)
        self._here -= 1
        branch.place = 0

    def first(self, look_again: Callable[[Branch], bool]) -> Iterator[Branch]:
        """The first first; those whose next call is here already come last. `look_again` looks at a branch's rank
        where that was long ago; whether it did."""
        for entry in self._passed:
            heapq.heappush(self._heap, entry)
        self._passed = []
        self._place_moved()
        pending = []
        while self._heap:
            entry = heapq.heappop(self._heap)
            branch = entry[2]
            if branch.place != entry[1]:
                continue
            if look_again(branch):
                self._place(branch)
                continue
            self._passed.append(entry)
            if branch.call is not None:
                pending.append(branch)
            else:
                yield branch
        yield from pending

    def _place_moved(self) -> None:
        if len(self._heap) > 4 * self._here + 64:
            self._clear_away()
        for branch in self._moved.values():
            self._place(branch)
        self._moved.clear()

    def _place(self, branch: Branch) -> None:
        self._number += 1
        branch.place = self._number
        heapq.heappush(self._heap, (self._order(holding_of(branch)), self._number, branch))

    def _clear_away(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].place == entry[1]]
        heapq.heapify(self._heap)


def holding_of(branch: Branch) -> Holding:
    assert branch.waiting is not None
    assert branch.retention is not None
    own, rank, program = branch.waiting.own_blocks, branch.retention.rank, branch.program
    turn_waiting = branch.call is not None
    return Holding(branch.key, own, rank, program.sequence, program.tenant, turn_waiting=turn_waiting)
