"""Which of several caches have a block, so that whoever looks for one need not ask each of them."""

from collections.abc import Iterable, Sequence

#: Says what stands in a block and in all blocks before it, so equal names mean equal beginnings.
BlockName = int


class BlockHolders:
    """Caches by the blocks they have, warm or about to be. Nearly all blocks are in one cache only."""

    def __init__(self) -> None:
        self._of: dict[BlockName, str | tuple[str, ...]] = {}

    def of(self, block: BlockName) -> Sequence[str]:
        """In the order in which they came to have it."""
        held = self._of.get(block, ())
        return (held,) if isinstance(held, str) else held

    def add(self, holder: str, blocks: Iterable[BlockName]) -> None:
        """It has them from now on, and had none of them before."""
        for block in blocks:
            others = self.of(block)
            self._of[block] = (*others, holder) if others else holder

    def remove(self, holder: str, block: BlockName) -> None:
        """It had the block, and has it no more."""
        held = self._of[block]
        left = () if isinstance(held, str) else tuple(other for other in held if other != holder)
        if not left:
            del self._of[block]
        else:
            self._of[block] = left if len(left) > 1 else left[0]
