"""What the door reads out of requests and answers in OpenAI's shape."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.door.answering import AnswerSoFar
from executor.door.asking import engine_body
from executor.door.conversations import Conversations
from executor.door.reading import CHAT, COMPLETIONS, LAST_BLOCKS, read_call
from executor.door.tools import tools_asked
from executor.door.turns import BLOCK, Text, answered_talk, end_of, names_at, talk_of, text_of_ids
from executor.engines.names import engine_name, from_header, in_header, salted
from executor.engines.port import EngineSpec, Usage
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId

_names = st.sampled_from(
    ["index", "message", "delta", "content", "text", "tool_calls", "function", "name", "arguments", "token_ids"]
)
ROOT, LETTERS = "team\0m\0text", st.text(st.sampled_from("abå"), max_size=40)
VLLM = EngineSpec(EngineId("e"), "vllm", ("m",), "http://e", served_names={"m": "served"})


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ({"content": "hello"}, ()),
        ({"content": "```bash\ncd /x && python -m pytest\n```"}, (ToolKey("bash", "pytest"),)),
        ({"content": "a\n```mswea_bash_command\nls -la\n```\nb"}, (ToolKey("bash", "ls"),)),
        ({"content": "```bash\nls\n```\n```bash\npwd\n```"}, ()),
        ({"content": "```python\nprint()\n```"}, ()),
        ({"content": None, "tool_calls": [{"function": {"name": "Look", "arguments": "{}"}}]}, (ToolKey("look"),)),
        (
            {
                "tool_calls": [
                    {"function": {"name": "bash", "arguments": '{"command": "git clone x"}'}},
                    {"function": None},
                ]
            },
            (ToolKey("bash", "git clone"), ToolKey("")),
        ),
        ({"tool_calls": [{"function": {"name": "bash", "arguments": "{broken"}}]}, None),
    ],
)
def test_the_tools_an_answer_asks_for(message: Any, keys: tuple[ToolKey, ...] | None) -> None:
    found = tools_asked(message)
    assert found == keys if keys is not None else len(found) == 1


def test_a_message_is_the_same_with_the_fields_that_clients_add_or_drop() -> None:
    asked = {"role": "user", "content": "x"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    as_given = {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}
    sent_back = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{**call, "index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    in_parts = {"role": "user", "content": [{"type": "text", "text": "x "}]}
    whole = answered_talk(talk_of("r", [asked]), as_given)
    assert talk_of("r", [in_parts, sent_back]) == whole
    assert talk_of("other", [asked, sent_back]) != whole
    assert talk_of("r", [asked, {**sent_back, "content": "more"}]) != whole


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=8), st.lists(st.integers(0, 2), max_size=8)
)
def test_a_text_goes_on_from_the_longest_of_its_beginnings(ended: list[list[int]], asked: list[int]) -> None:
    conversations = Conversations(most=100, idle_s=10)
    for number, ids in enumerate(ended):
        conversations.note(Text("r", text_of_ids(ids)), ProgramId(f"p{number}"), 0.0)
    beginnings = [ids for ids in ended if len(ids) < len(asked) and asked[: len(ids)] == ids]
    found = conversations.continued(Text("r", text_of_ids(asked)), 1.0)
    longest = max(beginnings, key=len, default=None)
    expected = None if longest is None else f"p{ended.index(longest)}"
    assert found == expected
    assert conversations.continued(Text("r", text_of_ids(asked)), 11.0) is None
    assert len(conversations) == 0


TEXTS = st.builds(lambda letters, size: (letters * size)[:size], LETTERS, st.integers(0, 3 * BLOCK))


@given(TEXTS, st.text(max_size=40))
def test_another_process_finds_where_a_text_goes_on_from(ended: str, more: str) -> None:
    end, reading = end_of(Text(ROOT, ended)), read_call("team", COMPLETIONS, {"model": "m", "prompt": ended + more}, {})
    (name,) = names_at(Text(ROOT, ended), [len(ended)])
    assert (end.blocks in reading.blocks) == bool(more or len(ended) % BLOCK)
    assert reading.turns_at([end.length, 10**9]) == ((name,) if more else ())
    other = read_call("team", COMPLETIONS, {"model": "m", "prompt": "\0" + ended + more}, {})
    assert name not in other.turns_at([end.length]) or not ended


def test_a_text_is_looked_for_by_its_last_blocks_and_a_chat_by_none() -> None:
    reading = read_call("team", COMPLETIONS, {"model": "m", "prompt": "x" * (LAST_BLOCKS + 9) * BLOCK}, {})
    assert len(reading.blocks) == LAST_BLOCKS
    assert reading.blocks[0] == end_of(Text(ROOT, "x" * ((LAST_BLOCKS + 8) * BLOCK + 5))).blocks
    assert read_call("team", CHAT, {"model": "m", "messages": []}, {}).blocks == ()


def test_what_is_remembered_of_conversations_is_bounded() -> None:
    conversations = Conversations(most=3, idle_s=1e9)
    for number in range(10):
        conversations.note(Text("r", "x" * (number + 1)), ProgramId(f"p{number}"), number)
    assert len(conversations) == 3
    assert conversations.continued(Text("r", "x" * 9), 10) == "p7"
    assert conversations.continued(Text("r", "x" * 8), 10) is None


@given(st.lists(st.integers(0, 2**31 - 1)), st.lists(st.integers(0, 2**31 - 1)))
def test_ids_that_differ_are_texts_that_differ(some: list[int], others: list[int]) -> None:
    if all(one < 0x10FFFF for one in [*some, *others]):
        assert (text_of_ids(some) == text_of_ids(others)) == (some == others)
    text_of_ids([*some, *others]).encode("utf-32-le", "surrogatepass")


def test_an_answer_in_parts_is_the_same_as_whole() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    whole, parts = AnswerSoFar(), AnswerSoFar()
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    whole.add({"choices": [{"index": 0, "message": {"content": "hello", "tool_calls": [call]}}], "usage": usage})
    for delta in (
        {"content": "hel"},
        {"content": "lo"},
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]},
    ):
        parts.add({"choices": [{"index": 0, "delta": delta}, {"index": 1, "delta": {"content": "not this"}}]})
    parts.add({"choices": [], "usage": usage})
    assert whole.message == parts.message
    assert whole.usage == parts.usage == Usage(9, 2, 4)


@pytest.mark.parametrize("junk", [{}, {"choices": None}, {"choices": [7]}, {"choices": [{"index": 0}]}, {"usage": 3}])
def test_an_answer_that_is_none_is_passed_over(junk: Any) -> None:
    answer = AnswerSoFar()
    answer.add(junk)
    assert (answer.message["content"], answer.usage) == ("", None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(_names, json_values, max_size=4), max_size=3), json_values)
def test_whatever_an_engine_answers_and_a_client_sends_back_is_read(parts: Any, function: Any) -> None:
    answer = AnswerSoFar()
    for part in parts:
        answer.add({"choices": [part, {"message": part}, {"delta": {"tool_calls": [part, {"function": function}]}}]})
    message = {"role": "assistant", "tool_calls": [{"function": function}], "content": None}
    for said in (answer.message, message):
        tools_asked(said)
        assert answered_talk(talk_of("r", [said]), said).names
    text_of_ids(answer.token_ids or ())


@pytest.mark.parametrize("arguments", ['{"at": NaN}', "[1e999]", "[" * 100_000, '{"at":'])
def test_arguments_that_are_no_json_are_known_by_their_text(arguments: str) -> None:
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    other = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments + " "}}]}
    assert talk_of("r", [message]) == talk_of("r", [message]) != talk_of("r", [other])


def test_arguments_as_an_object_are_those_as_a_text() -> None:
    as_object, as_text = AnswerSoFar(), AnswerSoFar()
    for answer, arguments in ((as_object, {"command": "ls"}), (as_text, '{"command":"ls"}')):
        answer.add({"choices": [{"message": {"tool_calls": [{"function": {"name": "bash", "arguments": arguments}}]}}]})
    assert tools_asked(as_object.message) == tools_asked(as_text.message) == (ToolKey("bash", "ls"),)


def test_the_engine_learns_the_program_and_no_client_can_be_another() -> None:
    body = {"model": "m", "messages": [], "vllm_xargs": {"halo_program": "x", "own": 1}, "session_id": "y", "top_k": 3}
    asked = engine_body(body, VLLM, ProgramId("t/p"), 7, "t")
    assert asked["vllm_xargs"] == {"halo_program": "t/p", "own": 1, "session_id": "t/p"}
    assert (asked["model"], asked["top_k"], asked["cache_salt"]) == ("served", 3, salted("t"))
    assert "session_id" not in asked
    assert "priority" not in asked
    assert body["session_id"] == "y"


@pytest.mark.parametrize("kind", ["vllm", "modelled"])
def test_engines_that_part_prefix_caches_are_told_whose_the_call_is(kind: str) -> None:
    asked = engine_body(
        {"model": "m", "messages": []}, EngineSpec(EngineId("e"), kind, ("m",)), ProgramId("t/p"), 7, "t"
    )
    assert asked["cache_salt"] == salted("t")


def test_where_the_engine_schedules_by_priority_the_program_has_its_place() -> None:
    spec = EngineSpec(EngineId("e"), "vllm", ("m",), "http://e", options={"priority_scheduling": True})
    body = {"model": "m", "messages": [], "priority": -1000}
    assert engine_body(body, spec, ProgramId("t/p"), 7, None)["priority"] == 7


def test_a_server_that_is_no_vllm_gets_nothing_it_may_refuse() -> None:
    spec = EngineSpec(EngineId("e"), "openai", ("m",), "http://e")
    body = {"model": "m", "messages": [], "stream": True, "stream_options": {"x": 1}}
    asked = engine_body(body, spec, ProgramId("t/p"), 7, "t")
    assert asked == {**body, "stream_options": {"x": 1, "include_usage": True}}


def test_of_several_tenants_none_is_more_urgent_by_its_own_word_or_shares_what_another_named() -> None:
    body = {"model": "m", "messages": [], "priority": -1000, "cache_salt": "s"}
    for kind in ("vllm", "openai"):
        spec = EngineSpec(EngineId("e"), kind, ("m",), "http://e")
        asked = [engine_body(body, spec, ProgramId(f"{tenant}/p"), 7, tenant) for tenant in ("ann", "bob")]
        assert [one["cache_salt"] for one in asked] == [salted("ann", "s"), salted("bob", "s")]
        assert all("priority" not in one for one in asked)
        alone = engine_body(body, spec, ProgramId("t/p"), 7, None)
        assert (alone["priority"], alone["cache_salt"]) == (-1000, "s")


@given(st.text(min_size=1, max_size=256))
def test_a_name_that_a_client_sends_back_as_it_got_it_is_the_same(name: str) -> None:
    body = {"model": "m", "messages": [], "metadata": {"program_id": name}}
    named = read_call("ann", CHAT, body, {}).named
    assert named is not None
    back = in_header(named.removeprefix("ann/"))
    assert read_call("ann", CHAT, {"model": "m", "messages": []}, {"x-halo-program-id": back}).named == named


def test_a_name_in_a_header_may_be_bytes_of_any_alphabet() -> None:
    as_sent = ["ü 1".encode().decode("latin-1"), "ü 1", "%C3%BC%201"]
    assert [from_header(value) for value in as_sent] == ["ü 1"] * 3


def test_a_name_is_never_too_long_for_the_engine() -> None:
    long = [engine_name(ProgramId("t/" + letter * 300)) for letter in "ab"]
    assert len(set(long)) == 2
    assert all(len(name) <= 256 for name in long)


def test_a_prompt_is_named_block_by_block_for_each_tenant() -> None:
    messages = [{"role": "user", "content": "word " * 500}]
    mine, theirs = (read_call(tenant, CHAT, {"model": "m", "messages": messages}, {}) for tenant in ("a", "b"))
    longer = read_call("a", CHAT, {"model": "m", "messages": [*messages, *messages]}, {})
    assert longer.prefix[: len(mine.prefix) - 1] == mine.prefix[:-1]
    assert set(mine.prefix).isdisjoint(theirs.prefix)
    ids = read_call("a", COMPLETIONS, {"model": "m", "prompt": list(range(640)), "max_tokens": 9}, {})
    assert (len(ids.prefix), ids.answer_tokens) == (20, 9)
