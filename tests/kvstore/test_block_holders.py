"""Whoever has a block is found without asking every cache."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.block_holders import BlockHolders
from kvstore.prefix_index import PrefixIndex

NAMES = ("one", "two", "three")
PROMPTS = st.sampled_from([(1,), (1, 2), (1, 2, 3), (1, 4), (5, 6, 7)])
STEPS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(NAMES), PROMPTS),
    st.tuples(st.just("drop"), st.sampled_from(NAMES), PROMPTS),
    st.tuples(st.just("forget"), st.sampled_from(NAMES), PROMPTS),
    st.tuples(st.just("resize"), st.sampled_from(NAMES), PROMPTS),
    st.tuples(st.just("gone"), st.sampled_from(NAMES), PROMPTS),
)


@given(st.lists(STEPS, max_size=30), st.booleans())
def test_of_a_block_all_are_known_who_have_it(steps, shares_in_flight):
    holders = BlockHolders()
    caches = {name: PrefixIndex(4, shares_in_flight=shares_in_flight, holders=holders, name=name) for name in NAMES}
    inside = []
    for step, name, blocks in steps:
        cache = caches[name]
        match step:
            case "call":
                cache.enter(blocks)
                inside.append((cache, blocks))
                if len(inside) > 2:
                    oldest, its_blocks = inside.pop(0)
                    oldest.leave(its_blocks)
            case "drop":
                cache.drop(blocks)
            case "forget":
                cache.forget()
            case "resize":
                cache.resize(len(blocks) + 1)
            case _:
                cache.was_gone(blocks[-1])
        for block in range(1, 8):
            warm = [name for name, cache in caches.items() if cache.warm(block)]
            assert set(warm) <= set(holders.of(block))
            if shares_in_flight:
                assert set(warm) == set(holders.of(block))
