"""The block pool's free queue with a second zone: blocks kept for programs that wait, taken only after all others.

Nothing is pinned. A kept block has no reference and counts as free, so whatever needs room gets it: first the ordinary
blocks, least recently used first, then what is kept, the least valuable program first and its last block first.
"""

from collections.abc import Callable, Iterable, Iterator

from vllm.v1.core.kv_cache_utils import FreeKVCacheBlockQueue, KVCacheBlock

Order = Callable[[], Iterable[str]]
Taken = Callable[[str, int], None]

#: Whoever gives way gives so many blocks at once, or this share of the pool if that is less: blocks are wanted one by
#: one, and to ask who is first costs more than a few blocks are worth. They can be found again until they are used.
MOST_AT_ONCE, POOL_SHARE_AT_ONCE = 16, 1 / 1024


class RankedFreeQueue(FreeKVCacheBlockQueue):
    """Takes the place of `queue`, with its blocks. `order` tells who gives way, the first first; `taken` is told how
    many blocks a program lost to somebody who needed the room.
    """

    def __init__(self, queue: FreeKVCacheBlockQueue, pool_blocks: int, order: Order, taken: Taken) -> None:
        self.num_free_blocks = queue.num_free_blocks
        self.fake_free_list_head = queue.fake_free_list_head
        self.fake_free_list_tail = queue.fake_free_list_tail
        self._order, self._taken = order, taken
        self._at_once = min(MOST_AT_ONCE, int(pool_blocks * POOL_SHARE_AT_ONCE))
        self._chains: dict[str, FreeKVCacheBlockQueue] = {}
        self._claimed: dict[str, list[int]] = {}
        self._claims: dict[int, str] = {}
        self._more_claims: dict[int, dict[str, None]] = {}
        self._chain_of: dict[int, FreeKVCacheBlockQueue] = {}

    @property
    def kept_blocks(self) -> int:
        """Blocks that are kept and used by nobody."""
        return len(self._chain_of)

    def keep(self, program: str, blocks: Iterable[KVCacheBlock]) -> None:
        """From now on these blocks, used and hashed, are kept for `program` when nobody uses them. Replaces what was
        kept for it."""
        self.let_go(program)
        self._claimed[program] = claimed = [block.block_id for block in blocks]
        self._chains[program] = FreeKVCacheBlockQueue([])
        self._claim(program, claimed)

    def let_go(self, program: str) -> int:
        """Nothing is kept for `program` any more; the number of its blocks that are now as free as any other."""
        self._disclaim(program, self._claimed.pop(program, ()))
        chain = self._chains.pop(program, None)
        if chain is None or not chain.num_free_blocks:
            return 0
        return self._demote(chain.popleft_n(chain.num_free_blocks))

    def leave(self, program: str) -> int:
        """Nothing is kept for `program` any more, and what it does not use now it has left behind: the first to go, as
        far as nobody else keeps it. The number of those blocks."""
        self._disclaim(program, self._claimed.pop(program, ()))
        chain = self._chains.pop(program, None)
        if chain is None or not chain.num_free_blocks:
            return 0
        left = chain.popleft_n(chain.num_free_blocks)
        self._out_of_chain(left)
        self.append_n([block for block in left if block.block_id in self._claims])
        nobodys = [block for block in left if block.block_id not in self._claims]
        self.prepend_n(nobodys)
        return len(nobodys)

    def give(self, program: str, blocks: int) -> int:
        """`program` gives up so many blocks, the last first; the number that are now as free as any other."""
        chain = self._chains.get(program)
        if chain is None:
            return 0
        given = chain.popleft_n(min(blocks, chain.num_free_blocks))
        self._disclaim(program, [block.block_id for block in given])
        return self._demote(given)

    def let_all_go(self) -> None:
        for program in list(self._claimed):
            self.let_go(program)

    def kept_of(self, program: str) -> int:
        """Blocks that are kept for `program` and used by nobody."""
        chain = self._chains.get(program)
        return chain.num_free_blocks if chain is not None else 0

    def popleft(self) -> KVCacheBlock:
        return self.popleft_n(1)[0]

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        ordinary = self.num_free_blocks - len(self._chain_of)
        if n <= ordinary:
            return super().popleft_n(n)
        return super().popleft_n(ordinary) + self._from_chains(n - ordinary)

    def remove(self, block: KVCacheBlock) -> None:
        super().remove(block)
        chain = self._chain_of.pop(block.block_id, None)
        if chain is not None:
            chain.num_free_blocks -= 1

    def append(self, block: KVCacheBlock) -> None:
        self.append_n([block])

    def append_n(self, blocks: list[KVCacheBlock]) -> None:
        """Most often all are one program's, or nobody's."""
        if not self._claims or not blocks:
            super().append_n(blocks)
            return
        owners = [self._claims.get(block.block_id) for block in blocks]
        if len(set(owners)) == 1:
            self._settle(owners[0], blocks)
            return
        theirs: dict[str | None, list[KVCacheBlock]] = {}
        for owner, block in zip(owners, blocks, strict=True):
            theirs.setdefault(owner, []).append(block)
        for owner, of_owner in theirs.items():
            self._settle(owner, of_owner)

    def get_all_free_blocks(self) -> list[KVCacheBlock]:
        kept = [block for chain in self._chains.values() for block in chain.get_all_free_blocks()]
        return super().get_all_free_blocks() + kept

    def _settle(self, owner: str | None, blocks: list[KVCacheBlock]) -> None:
        if owner is None:
            super().append_n(blocks)
        else:
            self._into_chain(owner, blocks)

    def _into_chain(self, program: str, blocks: list[KVCacheBlock]) -> None:
        chain = self._chains[program]
        chain.append_n(blocks)
        self._chain_of.update(dict.fromkeys([block.block_id for block in blocks], chain))
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
        self.num_free_blocks -= len(blocks)

    def _from_chains(self, blocks: int) -> list[KVCacheBlock]:
        assert blocks <= self.kept_blocks
        taken: list[KVCacheBlock] = []
        most = max(blocks, self._at_once)
        for program in self._in_order():
            chain = self._chains.get(program)
            if chain is None or not chain.num_free_blocks:
                continue
            given = self._from_chain(program, chain, most - len(taken))
            taken += given
            if not chain.num_free_blocks:
                self.let_go(program)
            self._taken(program, len(given))
            if len(taken) >= blocks:
                break
        super().append_n(taken[blocks:])
        return taken[:blocks]

    def _in_order(self) -> Iterator[str]:
        """After the order, whoever has blocks: they may have gone over to one whose turn had been."""
        yield from self._order()
        while self._chain_of:
            yield from list(self._chains)

    def _from_chain(self, program: str, chain: FreeKVCacheBlockQueue, most: int) -> list[KVCacheBlock]:
        """Its last blocks, but none that is kept for another program too: those go over to that one."""
        given: list[KVCacheBlock] = []
        while len(given) < most and chain.num_free_blocks:
            block = chain.popleft()
            self._disclaim(program, (block.block_id,))
            self._out_of_chain([block])
            if block.block_id in self._claims:
                self.append_n([block])
            else:
                given.append(block)
        return given

    def _claim(self, program: str, block_ids: list[int]) -> None:
        """The first to claim a block has it; the others stand in line."""
        if self._claims.keys().isdisjoint(block_ids):
            self._claims.update(dict.fromkeys(block_ids, program))
            return
        for block_id in block_ids:
            if self._claims.setdefault(block_id, program) != program:
                self._more_claims.setdefault(block_id, {})[program] = None

    def _disclaim(self, program: str, block_ids: Iterable[int]) -> None:
        claims, more_claims = self._claims, self._more_claims
        for block_id in block_ids:
            others = more_claims.get(block_id) if more_claims else None
            if others:
                self._disclaim_shared(program, block_id, others)
            elif claims.get(block_id) == program:
                del claims[block_id]

    def _disclaim_shared(self, program: str, block_id: int, others: dict[str, None]) -> None:
        if self._claims.get(block_id) == program:
            self._claims[block_id] = next(iter(others))
            del others[self._claims[block_id]]
        else:
            others.pop(program, None)
        if not others:
            del self._more_claims[block_id]
