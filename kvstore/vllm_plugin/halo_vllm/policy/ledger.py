"""Who owns which blocks, each counted once however many programs share it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence


class Ledger:
    """The block chains of active programs. A chain is the chained hashes of a context, so two chains that agree at a
    place agree on all before it."""

    def __init__(self) -> None:
        self._chains: dict[str, list[Hashable]] = {}
        self._owners: Counter[Hashable] = Counter()

    @property
    def owned_blocks(self) -> int:
        """Blocks of all programs together, each once."""
        return len(self._owners)

    def own(self, program: str, chain: Sequence[Hashable]) -> None:
        """`program` owns these blocks now, and none of those it owned before that are not among them."""
        held = self._chains.setdefault(program, [])
        same = common(held, chain)
        self._drop(held, same)
        self._owners.update(chain[same:])
        held.extend(chain[same:])

    def give(self, program: str, blocks: int) -> None:
        """`program` lost this many blocks at the end of its chain."""
        if held := self._chains.get(program):
            self._drop(held, max(len(held) - blocks, 0))

    def release(self, program: str) -> None:
        """`program` owns nothing any more; it need not have owned anything."""
        self._drop(self._chains.pop(program, []), 0)

    def own_blocks(self, program: str) -> int:
        """Blocks at the end of its chain that nobody else owns: what it can give."""
        held = self._chains.get(program, [])
        return len(held) - bisect_left(held, True, key=lambda block: self._owners[block] == 1)

    def missing_blocks(self, chain: Sequence[Hashable]) -> int:
        """Blocks of `chain` that nobody owns."""
        return len(chain) - bisect_left(chain, True, key=lambda block: block not in self._owners)

    def _drop(self, held: list[Hashable], keep: int) -> None:
        for block in held[keep:]:
            self._owners[block] -= 1
            if not self._owners[block]:
                del self._owners[block]
        del held[keep:]


def common(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many blocks two chains have in common, from their beginning."""
    return bisect_left(range(min(len(one), len(other))), True, key=lambda at: one[at] != other[at])
