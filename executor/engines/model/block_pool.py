"""Paged KV memory with prefix caching: which blocks are in use, and which are only kept because they may be hit."""

from collections import OrderedDict
from collections.abc import Sequence
from zlib import adler32, crc32

#: A block's name says what stands in it and in all blocks before it, so equal names mean equal prefixes.
BlockName = int


class BlockPool:
    """Counts blocks as vLLM does: `used` ones belong to running calls; idle ones hold a finished call's prefix until
    the room is needed, the least recently used first, and of one call the tail first."""

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self.capacity = capacity
        self._private = 0  # in use, and nobody can share them
        self._shared: dict[BlockName, int] = {}  # in use, with the number of users
        self._idle: OrderedDict[BlockName, None] = OrderedDict()

    @property
    def used(self) -> int:
        return self._private + len(self._shared)

    @property
    def available(self) -> int:
        """Blocks that can be taken, idle ones included."""
        return self.capacity - self.used

    def hits(self, names: Sequence[BlockName], most: int) -> int:
        """How many of the first `most` names are here, without a gap."""
        shared, idle = self._shared, self._idle
        for index, name in enumerate(names[:most]):
            if name not in shared and name not in idle:
                return index
        return min(most, len(names))

    def idle_among(self, names: Sequence[BlockName]) -> int:
        """How many of these would no longer be available if they were shared."""
        return sum(1 for name in names if name in self._idle)

    def share(self, names: Sequence[BlockName]) -> None:
        """Use blocks that are here."""
        for name in names:
            if name in self._shared:
                self._shared[name] += 1
            else:
                del self._idle[name]
                self._shared[name] = 1

    def take(self, count: int) -> None:
        """Use `count` more blocks of one's own; idle ones make room."""
        assert count <= self.available, "more blocks taken than there are"
        self._private += count
        self._make_room()

    def publish(self, name: BlockName) -> bool:
        """Let others share a block of one's own from now on. False where another block with that content is here."""
        if name in self._shared or name in self._idle:
            return False
        self._private -= 1
        self._shared[name] = 1
        return True

    def release(self, shared: Sequence[BlockName], private: int) -> None:
        """A call lets go of its blocks; those with a name stay as idle ones, the last the first to go."""
        self._private -= private
        for name in reversed(shared):
            users = self._shared[name] - 1
            if users:
                self._shared[name] = users
            else:
                del self._shared[name]
                self._rest(name)

    def check(self) -> None:
        """Raises `AssertionError` where the books do not balance."""
        assert self._private >= 0
        assert all(users > 0 for users in self._shared.values())
        assert not self._shared.keys() & self._idle.keys()
        assert self.used + len(self._idle) <= self.capacity

    def _make_room(self) -> None:
        idle = self._idle
        for _ in range(self._private + len(self._shared) + len(idle) - self.capacity):
            idle.popitem(last=False)

    def _rest(self, name: BlockName) -> None:
        """Nobody uses the block any more."""
        self._idle[name] = None


def block_names(text: str, block_characters: int, salt: str = "") -> tuple[BlockName, ...]:
    """The chained names of the full blocks of a text: equal beginnings under one salt, equal names; the same in every
    process.

    A name is two checksums that have little in common. That two of ten million beginnings have one name happens less
    than once in a thousand runs, and then a prefix is hit that is not there.
    """
    crc, adler, names = crc32(salt.encode()), adler32(salt.encode()), []
    for end in range(block_characters, len(text) + 1, block_characters):
        block = text[end - block_characters : end].encode("utf-8", "surrogatepass")
        crc, adler = crc32(block, crc), adler32(block, adler)
        names.append(crc << 32 | adler)
    return tuple(names)
