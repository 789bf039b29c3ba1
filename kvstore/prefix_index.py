"""What is believed of one engine's prefix cache: which blocks of prompts are warm there."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from kvstore.block_holders import BlockHolders, BlockName

__all__ = ["BlockName", "PrefixIndex"]


class PrefixIndex:
    """Blocks by name, as vLLM's block pool keeps them: those of calls in flight stay; of the others the least recently
    used give way where room is needed, and of one call the last block first.

    Whoever enters a prompt enters it from its first block on. So what is warm of a prompt is always a beginning of it,
    and is found by halving.

    With `shares_in_flight` a block can be used by others as soon as a call that computes it was sent, as in vLLM V1;
    without, only when a call that has it has ended. One of several tells the `holders`, as `name`, what it has.
    """

    def __init__(
        self, capacity: int, *, shares_in_flight: bool = True, holders: BlockHolders | None = None, name: str = ""
    ) -> None:
        assert capacity > 0
        self._holders, self._name = holders, name
        self._capacity = capacity
        self._shares_in_flight = shares_in_flight
        self._used: dict[BlockName, int] = {}  # with the number of calls in flight that have it
        self._idle: OrderedDict[BlockName, int] = OrderedDict()  # with when it became idle
        self._idle_before: dict[BlockName, int] = {}  # of blocks in use that were found warm: since when they were idle
        self._now = 0
        self._coming: set[BlockName] = set()  # in use, and no call that has it has ended yet

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def used(self) -> int:
        """Different blocks of the calls in flight."""
        return len(self._used)

    def __len__(self) -> int:
        return len(self._used) + len(self._idle)

    def warm(self, block: BlockName) -> bool:
        """Whether a call sent now would find the block."""
        if block in self._used:
            return self._shares_in_flight or block not in self._coming
        return block in self._idle

    def match(self, blocks: Sequence[BlockName]) -> int:
        """How many leading blocks are warm."""
        used, idle = self._used, self._idle
        coming = () if self._shares_in_flight else self._coming
        least, most = 0, len(blocks)
        while least < most:
            middle = (least + most) // 2
            block = blocks[middle]
            if (block in used and block not in coming) or block in idle:
                least = middle + 1
            else:
                most = middle
        return least

    def in_use(self, blocks: Sequence[BlockName]) -> int:
        """How many leading blocks calls in flight have: those take no more room."""
        least, most = 0, len(blocks)
        while least < most:
            middle = (least + most) // 2
            if blocks[middle] in self._used:
                least = middle + 1
            else:
                most = middle
        return least

    def enter(self, blocks: Sequence[BlockName]) -> list[BlockName]:
        """A call with these blocks was sent. Returns those that are warm only since then."""
        used, idle, cold = self._used, self._idle, []
        for block in blocks:
            if block in used:
                used[block] += 1
                continue
            used[block] = 1
            since = idle.pop(block, None)
            if since is None:
                cold.append(block)
            else:
                self._idle_before[block] = since
        self._coming.update(cold)
        if self._holders is not None:
            self._holders.add(self._name, cold)
        self._make_room()
        return cold if self._shares_in_flight else []

    def leave(self, blocks: Sequence[BlockName]) -> list[BlockName]:
        """A call that entered with these blocks is over. Returns those that are warm only since then."""
        used, idle, came = self._used, self._idle, []
        for block in reversed(blocks):
            if block in self._coming:
                self._coming.discard(block)
                came.append(block)
            users = used[block] - 1
            if users:
                used[block] = users
            else:
                del used[block]
                self._idle_before.pop(block, None)
                self._now += 1
                idle[block] = self._now
        self._make_room()
        return [] if self._shares_in_flight else [block for block in reversed(came) if self.warm(block)]

    def drop(self, blocks: Iterable[BlockName]) -> None:
        """The engine says that these are gone; those of calls in flight it has computed anew."""
        for block in blocks:
            if self._idle.pop(block, None) is not None:
                self._gone(block)

    def was_gone(self, block: BlockName) -> None:
        """A call that is in flight did not find the block. If it was believed to be warm, then what was idle for as
        long is gone too: the least recently used goes first."""
        since = self._idle_before.get(block)
        if since is None:
            return
        while self._idle and next(iter(self._idle.values())) <= since:
            self._gone(self._idle.popitem(last=False)[0])

    def forget(self) -> None:
        """The engine's cache is empty, but for the blocks of calls in flight."""
        for block in self._idle:
            self._gone(block)
        self._idle.clear()

    def resize(self, capacity: int) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._make_room()

    def _make_room(self) -> None:
        for _ in range(min(len(self._idle), len(self) - self._capacity)):
            self._gone(self._idle.popitem(last=False)[0])

    def _gone(self, block: BlockName) -> None:
        if self._holders is not None:
            self._holders.remove(self._name, block)
