"""The calls that write. Each step gives every one of them a token, so what becomes of them is known steps ahead, and
many steps cost as little as one: nothing here is done once a call and step."""

import heapq
from collections.abc import Collection, Sequence
from typing import Generic

from executor.engines.model.call import Call, Id


class Decoding(Generic[Id]):
    """Counts steps; a call's own counts stand still from when it joins until it leaves or ends.

    A call needs another block every `block_tokens` steps: those that do so in the same step stand together.
    """

    def __init__(self, block_tokens: int) -> None:
        self._size = block_tokens
        self._steps = 0
        self._calls = 0
        self._context = 0
        self._growing: list[dict[Call[Id], None]] = [{} for _ in range(block_tokens)]
        self._ends: list[tuple[int, int, Call[Id]]] = []  # a heap; those that left meanwhile are passed over

    def __len__(self) -> int:
        return self._calls

    @property
    def context_tokens(self) -> int:
        """Tokens of all its calls that have their KV in memory."""
        return self._context

    def join(self, call: Call[Id]) -> None:
        call.since = self._steps
        self._calls += 1
        self._context += call.computed
        self._growing[self._phase(call)][call] = None
        heapq.heappush(self._ends, (self._steps + call.output_tokens - call.written, call.place, call))

    def leave(self, call: Call[Id]) -> None:
        """It stops before its end."""
        self._remove(call)

    def dissolve(self) -> None:
        """All leave."""
        for call in [call for calls in self._growing for call in calls]:
            self._remove(call)
        self._ends.clear()

    def steps_left(self) -> int:
        """Until the first of its calls ends; there must be one."""
        while self._ends[0][2].since < 0:
            heapq.heappop(self._ends)
        return self._ends[0][0] - self._steps

    def turns(self, step: int) -> Sequence[Collection[Call[Id]]]:
        """Those that need another block for that step (0 is the next), for the one after it, and so on, until the first
        need one again. Who needs one for a step fills one in the step before."""
        phase = (self._steps + step) % self._size
        return self._growing[phase:] + self._growing[:phase]

    def blocks_wanted(self, first: int, last: int) -> int:
        """How many blocks all need for these steps, `last` not among them."""
        whole, more = divmod(last - first, self._size)
        return whole * self._calls + sum(map(len, self.turns(first)[:more]))

    def take(self, steps: int) -> list[Call[Id]]:
        """Each has so many steps, none more than it has left. Those that end, which leave."""
        self._steps += steps
        self._context += steps * self._calls
        ended = []
        while self._ends and (self._ends[0][2].since < 0 or self._ends[0][0] <= self._steps):
            call = heapq.heappop(self._ends)[2]
            if call.since >= 0:
                self._remove(call)
                ended.append(call)
        return ended

    def _phase(self, call: Call[Id]) -> int:
        return (call.since - call.computed) % self._size

    def _remove(self, call: Call[Id]) -> None:
        del self._growing[self._phase(call)][call]
        steps = self._steps - call.since
        call.computed += steps
        call.written += steps
        call.since = -1
        self._calls -= 1
        self._context -= call.computed
