"""Names of prompt blocks: equal beginnings, equal names, in every process."""

from hypothesis import given
from hypothesis import strategies as st

from executor.prompt_blocks import BLOCK_TOKENS, prompt_blocks
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json

BLOCK = BLOCK_TOKENS * CHARS_PER_TOKEN
TEXTS = st.text(max_size=3 * BLOCK)


def said(*contents: str, role: str = "user") -> list[Json]:
    return [{"role": role, "content": content} for content in contents]


def test_names_are_the_same_in_every_process() -> None:
    assert prompt_blocks("small", said("a" * 300)) == (548956899, 3676280737)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_shared_is_named_alike_and_no_more(begin: str, one: str, other: str) -> None:
    first, second = prompt_blocks("m", said(begin + one)), prompt_blocks("m", said(begin + other))
    whole = len("<user>" + begin) // BLOCK
    assert first[:whole] == second[:whole]
    assert len(set(first)) == len(first)
    if (begin + one)[: BLOCK - len("<user>")] != (begin + other)[: BLOCK - len("<user>")] and first and second:
        assert first[0] != second[0]


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_a_conversation_that_goes_on_begins_as_the_one_before(turns: list[str], answer: str) -> None:
    before = prompt_blocks("m", said(*turns))
    after = prompt_blocks("m", [*said(*turns), {"role": "assistant", "content": answer}, *said("and now?")])
    assert after[: len(before)] == before


def test_another_model_other_tools_or_another_role_share_nothing() -> None:
    text = "b" * 500
    tool = {"type": "function", "function": {"name": "look"}}
    plain = prompt_blocks("m", said(text))
    others = (prompt_blocks("n", said(text)), prompt_blocks("m", said(text), [tool]))
    assert all(plain[0] != names[0] for names in (*others, prompt_blocks("m", said(text, role="system"))))


def test_half_a_surrogate_pair_has_a_name_too() -> None:
    assert len(prompt_blocks("m", said("\ud800" * 200))) == 1
