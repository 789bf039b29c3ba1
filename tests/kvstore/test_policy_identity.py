"""Whose prompt it is, by the prompt alone; and what a client may say of itself."""

from hypothesis import given
from hypothesis import strategies as st

from halo_vllm.policy.hints import (
    ARGUMENTS,
    CLASSES,
    ETA_S,
    LAST,
    OTHER_NAMES,
    PROGRAM,
    TOOL,
    TTL_S,
    TURNS_LEFT,
    Clamps,
    Hints,
    read_hints,
    scoped,
)
from halo_vllm.policy.identity import MOST_ALIKE, Context, Continuation, Conversations
from halo_vllm.policy.tools import ToolKey

BLOCK = 4
CLAMPS = Clamps()


def context(text: str) -> Context:
    tokens = [ord(letter) for letter in text]
    return Context([text[: end + BLOCK] for end in range(0, len(text) - BLOCK + 1, BLOCK)], tokens, BLOCK)


def finish(conversations: Conversations, call: str, program: str, prompt: str, answer: str) -> None:
    found = conversations.continued(context(prompt))
    whole = context(prompt + answer)
    conversations.finished(call, program, context(prompt).ending, whole.ending, found.call if found else None)


def whose(conversations: Conversations, prompt: str) -> str | None:
    found = conversations.continued(context(prompt))
    return found.program if found else None


def test_a_prompt_that_goes_on_from_an_answer_is_the_same_program() -> None:
    known = Conversations()
    finish(known, "c1", "p", "system: fix the bug", "run tests")
    assert whose(known, "system: fix the bug" + "run tests" + "they fail") == "p"
    assert whose(known, "system: fix the bug") is None
    assert whose(known, "system: fix another bug, please") is None


def test_the_answer_may_come_back_written_otherwise() -> None:
    known = Conversations()
    finish(known, "c1", "p", "system: fix the bug", "<think>hm</think>run tests")
    assert whose(known, "system: fix the bug" + "run tests" + "they fail") == "p"


def test_programs_that_share_the_beginning_are_told_apart_within_a_block() -> None:
    known = Conversations()
    finish(known, "a1", "a", "system: task 1", "x")
    finish(known, "b1", "b", "system: task 2", "y")
    assert whose(known, "system: task 1x more") == "a"
    assert whose(known, "system: task 2y more") == "b"
    assert whose(known, "system: task 3z more") is None


def test_of_programs_that_began_alike_each_goes_on_from_its_own_answer() -> None:
    known = Conversations()
    finish(known, "a1", "a", "solve it: ", "one way")
    finish(known, "b1", "b", "solve it: ", "other way")
    assert whose(known, "solve it: other way and on") == "b"
    assert whose(known, "solve it: one way and on") == "a"


def test_a_prompt_that_leaves_a_branch_goes_on_from_where_that_began() -> None:
    known = Conversations()
    finish(known, "c1", "p", "fix the bug: ", "look")
    finish(known, "c2", "p", "fix the bug: look and", "edit")
    finish(known, "c3", "p", "fix the bug: look andedit then", "test")
    again = known.continued(context("fix the bug: look but otherwise"))
    assert again == Continuation("p", "c1")


def test_what_is_remembered_is_bounded() -> None:
    known = Conversations(most_calls=10)
    for number in range(30):
        finish(known, f"c{number}", f"p{number}", f"task {number:04d}", "done")
    assert len(known) == 10
    assert whose(known, "task 0003done more") is None
    assert whose(known, "task 0029done more") == "p29"
    for number in range(3 * MOST_ALIKE):
        finish(known, f"d{number}", f"q{number}", "the same prompt", "the same answer")
    assert len(known) == 10


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=9), st.text("ab", max_size=5)), max_size=8), st.text("ab"))
def test_only_ever_a_beginning_is_gone_on_from(calls: list[tuple[str, str]], prompt: str) -> None:
    known = Conversations()
    for number, (asked, answer) in enumerate(calls):
        known.finished(f"c{number}", f"p{number}", context(asked).ending, context(asked + answer).ending)
    found = known.continued(context(prompt))
    ends = [(n, end) for n, (asked, answer) in enumerate(calls) for end in (asked, asked + answer)]
    fitting = [(len(end), n) for n, end in ends if BLOCK <= len(end) < len(prompt) and prompt.startswith(end)]
    if found is None:
        assert not fitting
    else:
        assert (max(fitting)[0], int(found.call[1:])) in fitting


def test_hints_are_read_by_our_names_and_those_of_others() -> None:
    said = {"halo_program": "p", "halo_tool": "bash", "halo_tool_arguments": "cd a && pytest", "halo_eta_s": 2}
    assert read_hints(said, CLAMPS) == Hints(program="p", tools=(ToolKey("bash", "pytest"),), eta_s=2.0)
    continuum = {"job_id": 7, "this_func_call": "pytest", "is_last_step": 1, "guidance": "x"}
    assert read_hints(continuum, CLAMPS) == Hints(program="7", tools=(ToolKey("pytest"),), last=True)
    assert read_hints({"halo_turns_left": 0}, CLAMPS).last


def test_who_knows_the_class_of_the_arguments_need_not_send_them() -> None:
    said = {"halo_tool": ["Bash", "fetch", "search"], "halo_tool_class": ["sleep 2^3", "host.example"]}
    tools = (ToolKey("bash", "sleep 2^3"), ToolKey("fetch", "host.example"), ToolKey("search"))
    assert read_hints(said, CLAMPS).tools == tools
    both = {"halo_tool": "bash", "halo_tool_arguments": "make", "halo_tool_class": 7}
    assert read_hints(both, CLAMPS).tools == (ToolKey("bash", "make"),)


def test_a_bad_hint_costs_that_hint_and_is_told_without_its_text() -> None:
    hints = read_hints({"halo_program": "x" * 999, "halo_eta_s": "soon", "halo_last": 3, "halo_ttl_s": 1.0}, CLAMPS)
    assert hints.ttl_s == 1.0
    assert hints.ignored == (
        "halo_program: too long",
        "halo_eta_s: not a number",
        "halo_last: neither 0 nor 1",
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)
NAMES = st.sampled_from([PROGRAM, TOOL, ARGUMENTS, CLASSES, ETA_S, TTL_S, LAST, TURNS_LEFT, *OTHER_NAMES])


@given(st.dictionaries(NAMES, ANYTHING))
def test_whatever_is_said_stays_within_the_clamps(said: dict[str, object]) -> None:
    hints = read_hints(said, CLAMPS)
    assert 0 <= (hints.eta_s or 0) <= CLAMPS.longest_s
    assert 0 <= (hints.ttl_s or 0) <= CLAMPS.longest_s
    assert len(hints.tools) <= CLAMPS.most_tools
    assert len(hints.program or "") <= CLAMPS.longest_program
    assert 0 <= (hints.turns_left or 0) <= CLAMPS.most_turns_left


def test_endless_numbers_are_clamped_or_ignored() -> None:
    assert read_hints({"halo_ttl_s": 10**400}, CLAMPS).ttl_s == CLAMPS.longest_s
    for bad in (float("inf"), float("nan"), -1):
        assert read_hints({"halo_ttl_s": bad}, CLAMPS).ignored == ("halo_ttl_s: not a finite number from 0",)


@given(st.text(), st.text(), st.text(), st.text())
def test_no_tenant_can_name_anothers_program(tenant: str, program: str, other: str, foreign: str) -> None:
    assert (scoped(tenant, program) == scoped(other, foreign)) == ((tenant, program) == (other, foreign))
