"""The block pool's free queue with a second zone: blocks kept for programs that wait, taken only after all others.

Nothing is pinned. A kept block has no reference and counts as free, so whatever needs room gets it: first the ordinary
blocks, least recently used first, then what is kept, the least valuable program first and its last block first.
"""

from collections.abc import Callable, Iterable

from vllm.v1.core.kv_cache_utils import FreeKVCacheBlockQueue, KVCacheBlock

Order = Callable[[], Iterable[str]]
Taken = Callable[[str, int], None]


class RankedFreeQueue(FreeKVCacheBlockQueue):
    """Takes the place of `queue`, with its blocks. `order` tells who gives way, the first first; `taken` is told how
    many blocks a program lost to somebody who needed the room.
    """

    def __init__(self, queue: FreeKVCacheBlockQueue, order: Order, taken: Taken) -> None:
        self.num_free_blocks = queue.num_free_blocks
        self.fake_free_list_head = queue.fake_free_list_head
        self.fake_free_list_tail = queue.fake_free_list_tail
        self.kept_blocks = 0
        self._order, self._taken = order, taken
        self._chains: dict[str, FreeKVCacheBlockQueue] = {}
        self._claimed: dict[str, list[KVCacheBlock]] = {}
        self._claims: dict[int, list[str]] = {}
        self._chain_of: dict[int, str] = {}

    def keep(self, program: str, blocks: Iterable[KVCacheBlock]) -> None:
        """From now on these blocks, when nobody uses them, are kept for `program`. Replaces what was kept for it."""
        self.let_go(program)
        claimed = [block for block in blocks if block.block_hash is not None and not block.is_null]
        self._claimed[program] = claimed
        self._chains[program] = FreeKVCacheBlockQueue([])
        for block in claimed:
            self._claims.setdefault(block.block_id, []).append(program)
        for block in reversed(claimed):
            if block.ref_cnt == 0 and block.block_id not in self._chain_of:
                super().remove(block)
                self._into_chain(program, [block])

    def let_go(self, program: str) -> int:
        """Nothing is kept for `program` any more; the number of its blocks that are now as free as any other."""
        for block in self._claimed.pop(program, ()):
            self._disclaim(block.block_id, program)
        chain = self._chains.pop(program, None)
        if chain is None:
            return 0
        return self._demote(chain.popleft_n(chain.num_free_blocks))

    def give(self, program: str, blocks: int) -> int:
        """`program` gives up so many blocks, the last first; the number that are now as free as any other."""
        chain = self._chains.get(program)
        if chain is None:
            return 0
        given = chain.popleft_n(min(blocks, chain.num_free_blocks))
        for block in given:
            self._disclaim(block.block_id, program)
        return self._demote(given)

    def let_all_go(self) -> None:
        for program in list(self._claimed):
            self.let_go(program)

    def kept_of(self, program: str) -> int:
        """Blocks that are kept for `program` and used by nobody."""
        chain = self._chains.get(program)
        return chain.num_free_blocks if chain is not None else 0

    def popleft(self) -> KVCacheBlock:
        if self.num_free_blocks > self.kept_blocks:
            return super().popleft()
        return self._from_chains(1)[0]

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        ordinary = self.num_free_blocks - self.kept_blocks
        if n <= ordinary:
            return super().popleft_n(n)
        return super().popleft_n(ordinary) + self._from_chains(n - ordinary)

    def remove(self, block: KVCacheBlock) -> None:
        super().remove(block)
        program = self._chain_of.pop(block.block_id, None) if self.kept_blocks else None
        if program is not None:
            self._chains[program].num_free_blocks -= 1
            self.kept_blocks -= 1

    def append(self, block: KVCacheBlock) -> None:
        self.append_n([block])

    def append_n(self, blocks: list[KVCacheBlock]) -> None:
        if not self._claims:
            return super().append_n(blocks)
        ordinary: list[KVCacheBlock] = []
        kept: dict[str, list[KVCacheBlock]] = {}
        for block in blocks:
            claims = self._claims.get(block.block_id)
            (kept.setdefault(claims[0], []) if claims else ordinary).append(block)
        for program, theirs in kept.items():
            self._into_chain(program, theirs)
        return super().append_n(ordinary)

    def get_all_free_blocks(self) -> list[KVCacheBlock]:
        kept = [block for chain in self._chains.values() for block in chain.get_all_free_blocks()]
        return super().get_all_free_blocks() + kept

    def _into_chain(self, program: str, blocks: list[KVCacheBlock]) -> None:
        self._chains[program].append_n(blocks)
        self._chain_of.update((block.block_id, program) for block in blocks)
        self.kept_blocks += len(blocks)
        self.num_free_blocks += len(blocks)

    def _demote(self, blocks: list[KVCacheBlock]) -> int:
        """Blocks out of a chain: to the chain of the next program that claims them, else among the ordinary ones."""
        before = self.kept_blocks
        self._out_of_chain(blocks)
        self.append_n(blocks)
        return before - self.kept_blocks

    def _out_of_chain(self, blocks: list[KVCacheBlock]) -> None:
        for block in blocks:
            del self._chain_of[block.block_id]
        self.kept_blocks -= len(blocks)
        self.num_free_blocks -= len(blocks)

    def _from_chains(self, blocks: int) -> list[KVCacheBlock]:
        assert blocks <= self.kept_blocks
        taken: list[KVCacheBlock] = []
        for program in self._order():
            chain = self._chains.get(program)
            if chain is None or not chain.num_free_blocks:
                continue
            given = self._from_chain(program, chain, blocks - len(taken))
            taken += given
            self._taken(program, len(given))
            if len(taken) == blocks:
                return taken
        raise AssertionError("a program for which blocks are kept has no place in the order")

    def _from_chain(self, program: str, chain: FreeKVCacheBlockQueue, most: int) -> list[KVCacheBlock]:
        """Its last blocks, but none that is kept for another program too: those go over to that one."""
        given: list[KVCacheBlock] = []
        while len(given) < most and chain.num_free_blocks:
            block = chain.popleft()
            self._disclaim(block.block_id, program)
            self._out_of_chain([block])
            if block.block_id in self._claims:
                self.append_n([block])
            else:
                given.append(block)
        return given

    def _disclaim(self, block_id: int, program: str) -> None:
        claims = self._claims.get(block_id)
        if claims is None or program not in claims:
            return
        claims.remove(program)
        if not claims:
            del self._claims[block_id]
