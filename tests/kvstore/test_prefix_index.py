"""Laws and stories of the prefix index."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kvstore.prefix_index import PrefixIndex


def chain(*path: int) -> tuple[int, ...]:
    """Names of the blocks of a prompt that takes these turns: equal beginnings, equal names."""
    return tuple(hash(path[: end + 1]) for end in range(len(path)))


PATHS = st.lists(st.integers(0, 2), max_size=6).map(lambda path: chain(*path))

A, B = chain(0, 0, 0, 0), chain(0, 0, 1, 1)


def test_a_call_in_flight_warms_what_others_share_with_it() -> None:
    index = PrefixIndex(100)
    assert index.enter(A) == list(A)
    assert (index.match(A), index.match(B)) == (4, 2)
    assert index.enter(B) == list(B[2:])
    assert (index.used, index.in_use(chain(0, 0, 2))) == (6, 2)


def test_what_was_used_stays_warm_until_the_room_is_needed_and_the_tail_goes_first() -> None:
    index = PrefixIndex(5)
    index.enter(A)
    index.leave(A)
    assert (index.match(A), index.used) == (4, 0)
    index.enter(chain(1, 1, 1))
    assert index.match(A) == 2


def test_the_least_recently_used_goes_first() -> None:
    index = PrefixIndex(8)
    other = chain(7, 7, 7, 7)
    for blocks in (A, other, A):
        index.enter(blocks)
        index.leave(blocks)
    index.enter(chain(8, 8))
    assert (index.match(A), index.match(other)) == (4, 2)


def test_what_the_engine_says_is_gone_is_gone_but_for_calls_in_flight() -> None:
    index = PrefixIndex(100)
    index.enter(A)
    index.leave(A)
    index.enter(B)
    index.drop([A[1], A[2], A[3]])
    assert (index.match(A), index.match(B)) == (2, 4)


def test_a_block_that_was_not_found_takes_with_it_what_was_idle_for_as_long() -> None:
    index = PrefixIndex(100)
    old, other, young = chain(5, 5, 5), chain(6, 6, 6), chain(7, 7, 7)
    for blocks in (old, other, young):
        index.enter(blocks)
        index.leave(blocks)
    index.enter(other)
    index.was_gone(other[1])
    assert (index.match(old), index.match(other), index.match(young)) == (0, 3, 3)


def test_a_block_that_was_cold_says_nothing_of_others() -> None:
    index = PrefixIndex(100)
    index.enter(A)
    index.leave(A)
    index.enter(chain(9, 9))
    index.was_gone(chain(9, 9)[0])
    assert index.match(A) == 4


def test_an_engine_that_shares_late_has_a_block_when_the_first_call_with_it_has_ended() -> None:
    index = PrefixIndex(100, shares_in_flight=False)
    assert index.enter(A) == []
    index.enter(B)
    assert (index.match(B), index.in_use(B)) == (0, 4)
    assert index.leave(A) == list(A)
    assert (index.match(A), index.match(B)) == (4, 2)


def test_an_engine_that_is_back_has_only_what_is_in_flight() -> None:
    index = PrefixIndex(100)
    index.enter(A)
    index.leave(A)
    index.enter(B)
    index.forget()
    assert (index.match(A), index.match(B)) == (2, 4)


class PrefixIndexLaws(RuleBasedStateMachine):
    """Beside the index stands the plain truth: a list of what is in flight."""

    inside: Bundle[tuple[int, ...]] = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.index, self.in_flight = PrefixIndex(8), list[tuple[int, ...]]()
        self.late = PrefixIndex(8, shares_in_flight=False)
        self.seen: set[tuple[int, ...]] = set()

    @rule(target=inside, blocks=PATHS)
    def enter(self, blocks: tuple[int, ...]) -> tuple[int, ...]:
        before = self.index.match(blocks)
        assert self.index.enter(blocks) == list(blocks[before:])
        self.late.enter(blocks)
        self.in_flight.append(blocks)
        self.seen.add(blocks)
        return blocks

    @rule(blocks=consumes(inside))
    def leave(self, blocks: tuple[int, ...]) -> None:
        cold = self.late.match(blocks)
        warmed = self.late.leave(blocks)
        assert warmed == list(blocks[cold : cold + len(warmed)])
        self.index.leave(blocks)
        self.in_flight.remove(blocks)

    @rule(capacity=st.integers(1, 12))
    def resize(self, capacity: int) -> None:
        self.index.resize(capacity)
        self.late.resize(capacity)

    @rule()
    def forget(self) -> None:
        self.index.forget()

    @invariant()
    def only_what_is_in_flight_may_exceed_the_capacity(self) -> None:
        unique = {block for blocks in self.in_flight for block in blocks}
        for index in (self.index, self.late):
            assert index.used == len(unique)
            assert len(index) <= max(index.capacity, len(unique))

    @invariant()
    def what_is_in_flight_is_warm(self) -> None:
        assert all(self.index.match(blocks) == self.index.in_use(blocks) == len(blocks) for blocks in self.in_flight)

    @invariant()
    def what_is_warm_is_a_beginning(self) -> None:
        for index in (self.index, self.late):
            for blocks in self.seen:
                here = [index.warm(block) for block in blocks]
                assert here == [True] * index.match(blocks) + [False] * (len(blocks) - index.match(blocks))


TestPrefixIndexLaws = PrefixIndexLaws.TestCase
TestPrefixIndexLaws.settings = settings(max_examples=100, deadline=None)


@given(st.lists(PATHS, max_size=8), st.integers(1, 6))
def test_with_room_for_all_whatever_was_there_is_found_again(prompts: list[tuple[int, ...]], repeats: int) -> None:
    index = PrefixIndex(1000)
    for _ in range(repeats):
        for blocks in prompts:
            index.enter(blocks)
            index.leave(blocks)
    assert all(index.match(blocks) == len(blocks) for blocks in prompts)
