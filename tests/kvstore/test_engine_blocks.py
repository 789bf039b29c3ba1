"""What an engine says it holds, and which names of ours that keeps warm."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.engine_blocks import EngineBlocks
from kvstore.kv_events import AllCleared, BlocksRemoved, BlocksStored

BLOCK = 16


def stored(*hashes: int, after: int | None = None, session: str | None = "p1") -> BlocksStored:
    return BlocksStored(hashes, after, BLOCK, session)


def told(*events: BlocksStored) -> EngineBlocks:
    blocks = EngineBlocks()
    for event in events:
        assert blocks.apply(event) == ()
    return blocks


def test_a_name_is_warm_until_the_block_in_which_it_ends_is_gone() -> None:
    blocks = told(stored(1, 2, 3, 4))
    blocks.answered("p1", names=(100, 101), name_tokens=32.0, prompt_tokens=70)
    assert blocks.apply(BlocksRemoved((3,))) == ()
    assert blocks.apply(BlocksRemoved((4,))) == (101,)
    assert blocks.apply(BlocksRemoved((2, 1))) == (100,)
    assert len(blocks) == 0


def test_names_need_not_end_where_blocks_end() -> None:
    blocks = told(stored(1, 2, 3, 4))
    blocks.answered("p1", names=(100, 101, 102), name_tokens=20.0, prompt_tokens=64)
    assert blocks.apply(BlocksRemoved((4,))) == (102,)
    assert blocks.apply(BlocksRemoved((3,))) == (101,)
    assert blocks.apply(BlocksRemoved((2,))) == (100,)


def test_a_next_turn_is_known_with_the_blocks_it_shares() -> None:
    blocks = told(stored(1, 2))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=32)
    blocks.apply(stored(3, 4, after=2))
    blocks.answered("p1", names=(100, 101), name_tokens=32.0, prompt_tokens=64)
    assert set(blocks.apply(AllCleared())) == {100, 101}


def test_what_the_answer_added_is_not_taken_for_the_prompt() -> None:
    blocks = told(stored(1, 2), stored(3, after=2))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=40)
    assert blocks.apply(BlocksRemoved((3,))) == ()
    assert blocks.apply(BlocksRemoved((2,))) == (100,)


def test_another_sessions_blocks_are_not_this_calls() -> None:
    blocks = told(stored(1, 2, session="p2"))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=32)
    assert blocks.forget() == ()


def test_a_chain_whose_beginning_was_never_told_binds_nothing() -> None:
    blocks = told(stored(8, 9, after=7))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=32)
    assert blocks.forget() == ()
    assert not blocks.holds(8)


def test_events_that_come_after_the_answer_are_its_own_still() -> None:
    blocks = told(stored(1, 2))
    blocks.answered("p1", names=(100, 101), name_tokens=32.0, prompt_tokens=70)
    blocks.apply(stored(3, 4, 5, after=2))
    assert blocks.apply(BlocksRemoved((4,))) == (101,)
    assert blocks.apply(BlocksRemoved((2,))) == (100,)


def test_a_name_moves_to_where_it_was_computed_last() -> None:
    blocks = told(stored(1, 2))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=32)
    blocks.apply(stored(5, 6))
    blocks.answered("p1", names=(100,), name_tokens=32.0, prompt_tokens=32)
    assert blocks.apply(BlocksRemoved((2,))) == ()
    assert blocks.apply(BlocksRemoved((6,))) == (100,)


EVENTS = st.one_of(
    st.builds(
        lambda hashes, after, session: stored(*hashes, after=after, session=session),
        st.lists(st.integers(0, 30), max_size=4, unique=True),
        st.none() | st.integers(0, 30),
        st.sampled_from(["p1", "p2", None]),
    ),
    st.builds(lambda hashes: BlocksRemoved(tuple(hashes)), st.lists(st.integers(0, 30), max_size=4)),
    st.just(AllCleared()),
    st.tuples(st.sampled_from(["p1", "p2"]), st.lists(st.integers(100, 110), max_size=5, unique=True)),
)


@given(st.lists(EVENTS, max_size=40))
def test_no_name_goes_twice_and_none_outlives_all_blocks(events: list[object]) -> None:
    blocks, warm = EngineBlocks(), set[int]()
    for event in events:
        if isinstance(event, tuple):
            session, names = event
            blocks.answered(session, names, 20.0, 200)
            warm |= set(names)  # at most: of those not bound, the engine tells nothing
            continue
        assert isinstance(event, BlocksStored | BlocksRemoved | AllCleared)
        gone = blocks.apply(event)
        assert len(set(gone)) == len(gone)
        assert set(gone) <= warm
        if isinstance(event, AllCleared):
            assert len(blocks) == 0
    blocks.forget()
    assert blocks.forget() == ()
