"""The free queue with a second zone: no block is lost or doubled, and kept blocks go last, whatever happens."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock

from halo_vllm.eviction import RankedFreeQueue

BLOCKS = 24
PROGRAMS = ("a", "b", "c")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.sampled_from(PROGRAMS), st.integers(1, 10)),
        st.tuples(st.just("end"), st.sampled_from(PROGRAMS), st.booleans()),
        st.tuples(st.just("share"), st.sampled_from(PROGRAMS), st.sampled_from(PROGRAMS)),
        st.tuples(st.just("let_go"), st.sampled_from(PROGRAMS), st.just(0)),
        st.tuples(st.just("give"), st.sampled_from(PROGRAMS), st.integers(0, 5)),
    ),
    max_size=40,
)


class Pool:
    """vLLM's pool and what programs use of it; `lost` is what the queue told."""

    def __init__(self) -> None:
        self.pool = BlockPool(BLOCKS, enable_caching=True, hash_block_size=16)
        self.lost: list[tuple[str, int]] = []
        self.queue = RankedFreeQueue(
            self.pool.free_block_queue, BLOCKS, lambda: PROGRAMS, lambda name, blocks: self.lost.append((name, blocks))
        )
        self.pool.free_block_queue = self.queue
        self.used: dict[str, list[KVCacheBlock]] = {program: [] for program in PROGRAMS}
        self.hashes = 0

    def use(self, program: str, blocks: int) -> None:
        for block in self.pool.get_new_blocks(min(blocks, self.pool.get_num_free_blocks())):
            self.hashes += 1
            block.set_block_hash(self.hashes.to_bytes(8) + bytes(4))  # type: ignore[arg-type]
            self.used[program].append(block)

    def share(self, program: str, other: str) -> None:
        mine = {block.block_id for block in self.used[program]}
        theirs = [block for block in self.used[other] if block.block_id not in mine]
        self.pool.touch(theirs)
        self.used[program] += theirs

    def end(self, program: str, keep: bool) -> None:
        if keep:
            self.queue.keep(program, self.used[program])
        self.pool.free_blocks(reversed(self.used[program]))
        self.used[program] = []

    def check(self) -> None:
        free = [block.block_id for block in self.queue.get_all_free_blocks()]
        used = {block.block_id for blocks in self.used.values() for block in blocks}
        assert len(free) == len(set(free)) == self.queue.num_free_blocks
        assert not used & set(free)
        assert len(free) + len(used) + 1 == BLOCKS  # vLLM's null block is neither
        assert self.queue.kept_blocks == sum(self.queue.kept_of(program) for program in PROGRAMS)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_every_block_is_free_once_or_used(events: list[tuple[str, str, Any]]) -> None:
    pool = Pool()
    for event, program, argument in events:
        match event:
            case "use":
                pool.use(program, argument)
            case "share":
                pool.share(program, argument)
            case "end":
                pool.end(program, argument)
            case "let_go":
                pool.queue.let_go(program)
            case "give":
                pool.queue.give(program, argument)
        pool.check()
    for program in PROGRAMS:
        pool.end(program, keep=False)
        pool.queue.let_go(program)
    assert pool.queue.kept_blocks == 0
    assert len(pool.pool.get_new_blocks(BLOCKS - 1)) == BLOCKS - 1


def test_ordinary_blocks_go_first_then_the_first_in_the_order_from_its_end() -> None:
    pool = Pool()
    for program in ("b", "a"):
        pool.use(program, 8)
        pool.end(program, keep=True)
    of_a = [block.block_id for block in pool.queue._chains["a"].get_all_free_blocks()]
    ordinary = BLOCKS - 1 - 16
    taken = pool.pool.get_new_blocks(ordinary + 3)
    assert [block.block_id for block in taken[ordinary:]] == of_a[:3] == sorted(of_a)[-1:-4:-1]
    assert pool.lost == [("a", 3)]
    assert (pool.queue.kept_of("a"), pool.queue.kept_of("b")) == (5, 8)


def test_blocks_that_go_over_to_one_whose_turn_had_been_are_taken_too() -> None:
    pool = Pool()
    pool.use("b", 8)
    pool.share("a", "b")
    pool.end("b", keep=True)
    pool.end("a", keep=True)
    assert (pool.queue.kept_of("a"), pool.queue.kept_of("b")) == (0, 8)
    assert len(pool.pool.get_new_blocks(BLOCKS - 1)) == BLOCKS - 1
    assert pool.queue.kept_blocks == 0


def test_who_lost_all_claims_no_longer_what_others_use_of_it() -> None:
    pool = Pool()
    pool.use("a", 8)
    pool.share("b", "a")
    pool.use("a", 4)
    pool.end("a", keep=True)
    pool.pool.get_new_blocks(pool.pool.get_num_free_blocks())
    assert pool.lost == [("a", 4)]
    pool.end("b", keep=False)
    assert (pool.queue.kept_blocks, pool.queue.num_free_blocks) == (0, 8)
