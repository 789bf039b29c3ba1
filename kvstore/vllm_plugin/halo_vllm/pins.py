"""Blocks pinned for programs that wait, as Continuum does (arXiv 2511.02230): in use until let go."""

from collections.abc import Iterable

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock


class PinnedBlocks:
    """Beside `eviction.RankedFreeQueue`, and used like it; the pool's own reference counts do the work."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._pinned: dict[str, list[KVCacheBlock]] = {}
        self.kept_blocks = 0

    def keep(self, program: str, blocks: Iterable[KVCacheBlock]) -> None:
        self.let_go(program)
        pinned = list(blocks)
        self._pool.touch(pinned)
        self._pinned[program] = pinned
        self.kept_blocks += len(pinned)

    def let_go(self, program: str) -> int:
        return self.give(program, len(self._pinned.get(program, ())))

    def leave(self, program: str) -> int:
        """What it does not use now it has left behind. Continuum makes no difference."""
        self.let_go(program)
        return 0

    def give(self, program: str, blocks: int) -> int:
        pinned = self._pinned.get(program, [])
        given = pinned[len(pinned) - min(blocks, len(pinned)) :]
        del pinned[len(pinned) - len(given) :]
        if not pinned:
            self._pinned.pop(program, None)
        self.kept_blocks -= len(given)
        self._pool.free_blocks(reversed(given))
        return len(given)

    def let_all_go(self) -> None:
        for program in list(self._pinned):
            self.let_go(program)

    def kept_of(self, program: str) -> int:
        return len(self._pinned.get(program, ()))
