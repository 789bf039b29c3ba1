"""The prefix tree over blocks: what prompts share, in which groups, and what a cache makes of an order."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.prefix.blocks import PromptBlocks, prompt_blocks, token_blocks
from planner.prefix.groups import Group, enlarged, first_level, groups_at_once
from planner.prefix.replay import replay
from planner.prefix.tree import PrefixTree, dfs_order

PROMPTS = st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12)
TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "mooncake_fast25"


def tree_of(prompts: list[list[int]], block_tokens: int = 1) -> PrefixTree:
    return PrefixTree(prompt_blocks(prompts, block_tokens))


def saved(groups: list[Group]) -> float:
    return sum(group.saved_tokens for group in groups)


@given(PROMPTS)
def test_each_different_prefix_is_computed_once(prompts: list[list[int]]) -> None:
    prefixes = {tuple(prompt[:length]) for prompt in prompts for length in range(1, len(prompt) + 1)}

    assert tree_of(prompts, 16).distinct_tokens == 16 * len(prefixes)


@given(PROMPTS)
def test_depth_first_order_keeps_what_shares_a_prefix_together_and_equal_prompts_in_their_order(
    prompts: list[list[int]],
) -> None:
    order = dfs_order(tree_of(prompts))

    assert sorted(order) == list(range(len(prompts)))
    for prompt in prompts:
        for length in range(1, len(prompt) + 1):
            places = [place for place, at in enumerate(order) if prompts[at][:length] == prompt[:length]]
            assert places == list(range(places[0], places[0] + len(places)))
        equal = [at for at in order if prompts[at] == prompt]
        assert equal == sorted(equal)


@given(PROMPTS)
def test_enlarged_groups_hold_every_prompt_once_and_share_at_least_what_the_first_level_does(
    prompts: list[list[int]],
) -> None:
    tree = tree_of(prompts)
    groups = enlarged(tree)

    assert sorted(prompt for group in groups for prompt in group.prompts) == list(range(len(prompts)))
    for group in groups:
        length = int(group.prefix_tokens)
        assert len({tuple(prompts[prompt][:length]) for prompt in group.prompts}) == 1
        rests = sum(len(prompts[prompt]) - length for prompt in group.prompts)
        assert group.distinct_tokens == rests
    optimum = sum(map(len, prompts)) - tree.distinct_tokens
    assert saved(first_level(tree)) <= saved(groups) <= optimum


def test_a_short_instruction_that_all_have_does_not_hide_the_documents_behind_it() -> None:
    """Algorithm 1 of BatchLLM: both documents leave the instruction, for each is worth more than it."""
    instruction, one, other = [1], [2, 3, 4], [5, 6, 7]
    prompts = [
        [*instruction, *one, 10],
        [*instruction, *other, 11],
        [*instruction, *one, 12],
        [*instruction, *other, 13],
    ]

    assert [group.prompts for group in first_level(tree_of(prompts))] == [(0, 2, 1, 3)]
    assert [(group.prefix_tokens, group.prompts) for group in enlarged(tree_of(prompts))] == [(4, (0, 2)), (4, (1, 3))]


def test_a_branch_stays_where_leaving_would_compute_more() -> None:
    instruction, one = [1, 2, 3, 4], [5]
    prompts = [[*instruction, *one, 10], [*instruction, *one, 11], [*instruction, 12]]

    assert [(group.prefix_tokens, group.prompts) for group in enlarged(tree_of(prompts))] == [(4, (0, 1, 2))]


def test_what_ranks_higher_comes_first_but_prefixes_stay_together() -> None:
    prompts = [[1, 2], [3], [1, 4, 4], [3], [3]]

    assert dfs_order(tree_of(prompts), lambda node: node.leaves) == [1, 3, 4, 0, 2]


def test_as_many_groups_run_at_once_as_the_cache_holds_and_at_least_one() -> None:
    groups = [Group(100.0, 40.0, (0, 1)), Group(100.0, 60.0, (2, 3)), Group(500.0, 10.0, (4,))]

    assert groups_at_once(groups, 30.0, 1000.0) == 3
    assert groups_at_once(groups, 30.0, 310.0) == 2
    assert groups_at_once(groups, 30.0, 50.0) == 1


@given(PROMPTS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_the_replay_is_that_of_single_blocks(prompts, kv_blocks, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(prompts)))
    random.shuffle(order)

    assert replay(tree_of(prompts, 16), order, 16 * kv_blocks) == 16 * hits_of_single_blocks(prompts, order, kv_blocks)


def hits_of_single_blocks(prompts: list[list[int]], order: list[int], kv_blocks: int) -> int:
    """A cache that knows nothing of trees: blocks by their whole prefix; the end of a prompt goes first."""
    held: OrderedDict[tuple[int, ...], None] = OrderedDict()
    hits = 0
    for prompt in (prompts[at] for at in order):
        prefixes = [tuple(prompt[:length]) for length in range(1, len(prompt) + 1)]
        missing = next((at for at, prefix in enumerate(prefixes) if prefix not in held), len(prefixes))
        hits += missing
        for prefix in reversed(prefixes):
            held[prefix] = None
            held.move_to_end(prefix)
        while len(held) > kv_blocks:
            held.popitem(last=False)
    return hits


def test_whole_blocks_are_shared_and_the_rest_of_a_prompt_is_its_own() -> None:
    shared = np.arange(40)
    prompts = [np.concatenate([shared, [7]]), np.concatenate([shared, [8]]), shared]

    blocks = token_blocks(prompts, 16)

    assert blocks.prompt_tokens == 41 + 41 + 40
    assert blocks.private_tokens.tolist() == [9, 9, 8]
    assert PrefixTree(blocks).distinct_tokens == 32 + 9 + 9 + 8


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=30))
def test_blocks_of_different_tokens_have_different_names(prompts: list[list[int]]) -> None:
    blocks: PromptBlocks = token_blocks([np.asarray(prompt) for prompt in prompts], 4)

    assert len(set(blocks.ids.tolist())) == len({tuple(prompt) for prompt in prompts})


@pytest.mark.skipif(not TRACES.is_dir(), reason="the Mooncake traces are not here")
@pytest.mark.parametrize(
    ("trace", "optimum", "first", "grown", "arrival", "planned"),
    [
        ("conversation", 35.5, 4.1, 32.6, {0.512: 4.5, 1.536: 6.6, 5.12: 20.7, 25.6: 34.7}, {0.1536: 35.5}),
        ("synthetic", 51.9, 51.6, 51.8, {0.512: 2.7, 1.536: 9.0, 5.12: 27.9, 25.6: 51.9}, {0.512: 51.9}),
    ],
)
def test_mooncake_traces_share_what_the_published_figures_say(
    trace: str, optimum: float, first: float, grown: float, arrival: dict[float, float], planned: dict[float, float]
) -> None:
    lines = (TRACES / f"{trace}_trace.jsonl").read_text().splitlines()
    tree = tree_of([json.loads(line)["hash_ids"] for line in lines], 512)
    total = tree.blocks.prompt_tokens

    def percent(tokens: float) -> float:
        return 100 * tokens / total

    assert percent(total - tree.distinct_tokens) == pytest.approx(optimum, abs=0.1)
    assert percent(saved(first_level(tree))) == pytest.approx(first, abs=0.1)
    assert percent(saved(enlarged(tree))) == pytest.approx(grown, abs=0.1)
    for millions, share in arrival.items():
        assert percent(replay(tree, range(len(lines)), millions * 1e6)) == pytest.approx(share, abs=0.11)
    for millions, share in planned.items():
        assert percent(replay(tree, dfs_order(tree), millions * 1e6)) == pytest.approx(share, abs=0.1)
