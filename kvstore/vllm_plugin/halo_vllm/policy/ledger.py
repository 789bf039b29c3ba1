"""Who owns which blocks, each counted once however many programs share it."""

from bisect import bisect_left
from collections.abc import Hashable, Sequence


class Ledger:
    """The block chains of active programs. A chain is the chained hashes of a context, so two chains that agree at a
    place agree on all before it."""

    def __init__(self) -> None:
        self._chains: dict[str, list[Hashable]] = {}
        self._owners: dict[Hashable, int] = {}

    @property
    def owned_blocks(self) -> int:
        """Blocks of all programs together, each once."""
        return len(self._owners)

    @property
    def chains(self) -> int:
        """How many own something, or may soon."""
        return len(self._chains)

    def own(self, program: str, chain: Sequence[Hashable]) -> None:
        """`program` owns these blocks now, and none of those it owned before that are not among them."""
        held = self._chains.setdefault(program, [])
        same = common(held, chain)
        if same < len(held):
            self._drop(held, same)
        new = chain[same:]
        shared = len(new) - self.missing_blocks(new)
        for block in new[:shared]:
            self._owners[block] += 1
        self._owners.update(dict.fromkeys(new[shared:], 1))
        held += new

    def give(self, program: str, blocks: int) -> None:
        """`program` lost this many blocks at the end of its chain."""
        if held := self._chains.get(program):
            self._drop(held, max(len(held) - blocks, 0))

    def release(self, program: str) -> None:
        """`program` owns nothing any more; it need not have owned anything."""
        if held := self._chains.pop(program, None):
            self._drop(held, 0)

    def own_blocks(self, program: str) -> int:
        """Blocks at the end of its chain that nobody else owns: what it can give."""
        return self._alone(self._chains.get(program, ()))

    def shared_blocks(self, program: str, chain: Sequence[Hashable]) -> tuple[int, bool]:
        """Of what `program` owns, so many blocks are the beginning of `chain`; and whether that is all it owns."""
        held = self._chains.get(program, ())
        shared = common(held, chain)
        return shared, shared == len(held)

    def missing_blocks(self, chain: Sequence[Hashable]) -> int:
        """Blocks of `chain` that nobody owns."""
        if not chain or chain[0] not in self._owners:
            return len(chain)
        return len(chain) - bisect_left(chain, True, key=lambda block: block not in self._owners)

    def missing_together(self, chains: Sequence[Sequence[Hashable]]) -> int:
        """Blocks of all these chains that nobody owns, each once."""
        if len(chains) == 1:
            return self.missing_blocks(chains[0])
        return len({block for chain in chains for block in chain[len(chain) - self.missing_blocks(chain) :]})

    def _alone(self, held: Sequence[Hashable]) -> int:
        if not held or self._owners[held[0]] == 1:
            return len(held)
        return len(held) - bisect_left(held, True, key=lambda block: self._owners[block] == 1)

    def _drop(self, held: list[Hashable], keep: int) -> None:
        """What others own too stands before what they do not."""
        gone = held[keep:]
        shared = len(gone) - self._alone(gone)
        for block in gone[:shared]:
            self._owners[block] -= 1
        for block in gone[shared:]:
            del self._owners[block]
        del held[keep:]


def common(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many blocks two chains have in common, from their beginning."""
    most = min(len(one), len(other))
    if most and one[most - 1] == other[most - 1]:
        return most
    return bisect_left(range(most), True, key=lambda at: one[at] != other[at])
