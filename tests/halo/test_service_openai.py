"""Agents that speak OpenAI's API: what they send passes on, what they get is the engine's, whatever goes wrong."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from service_stand import SPEC, Stand, listening, service

from executor.engines.names import salted
from executor.engines.open import open_engine
from executor.engines.port import EngineSpec
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from halo.settings import Bounds
from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramState, StateUnavailable
from planner.ir.ids import EngineId, ProgramId
from tests.executor.stub_openai import StubOpenAI, delta, events, good, hang_up, silence, status

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = {"role": "user", "content": "hello"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@asynccontextmanager
async def door(**more: Any) -> AsyncIterator[tuple[Stand, StubOpenAI]]:
    """A service before one engine that is a stub on a real socket."""
    stub = StubOpenAI("stub-model")
    await stub.start()
    spec = EngineSpec(EngineId("stub"), "vllm", ("small",), stub.url, served_names={"small": "stub-model"})
    engine = open_engine(spec)
    try:
        async with service(engines=[engine], **more) as stand:
            yield stand, stub
    finally:
        await engine.close()
        await stub.stop()


def _call(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": list(messages) or [HELLO], **more}


def _error(answer: httpx.Response, status: int, kind: str, code: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = dict(answer.json()["error"])
    assert (error["type"], error["code"]) == (kind, code), error
    assert set(error) == {"message", "type", "param", "code"}
    return error


def _events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_a_chat_is_answered_by_an_engine_of_this_process() -> None:
    async with service() as stand:
        answer = await stand.api.post(CHAT, json=_call(temperature=0, n=2, max_tokens=20))
    told = answer.json()
    assert answer.status_code == 200
    assert [choice["index"] for choice in told["choices"]] == [0, 1]
    assert told["usage"]["prompt_tokens"] > 0
    assert (told["object"], told["model"]) == ("chat.completion", "small")


async def test_fields_nobody_here_knows_pass_on_and_the_model_keeps_its_name() -> None:
    async with door() as (stand, stub):
        told = (await stand.api.post(CHAT, json=_call(logit_bias={"7": 1}, top_k=3, logprobs=True))).json()
        await stand.api.post(COMPLETIONS, json={"model": "small", "prompt": [1, 2, 3], "echo": True})
    assert (told["model"], told["choices"][0]["message"]["content"]) == ("small", "hello")
    chat, completion = stub.bodies
    assert (chat["model"], chat["logit_bias"], chat["top_k"], chat["logprobs"]) == ("stub-model", {"7": 1}, 3, True)
    assert (completion["prompt"], completion["echo"]) == ([1, 2, 3], True)


@pytest.mark.parametrize(
    ("headers", "fields", "name"),
    [
        ({"X-Halo-Program-Id": "p1"}, {}, "p1"),
        ({"X-Session-ID": "p2"}, {}, "p2"),
        ({"X-Dynamo-Session-ID": "p3"}, {}, "p3"),
        ({}, {"metadata": {"program_id": "p4"}}, "p4"),
        ({}, {"vllm_xargs": {"session_id": "p5"}}, "p5"),
        ({}, {"vllm_xargs": {"agent_id": "p6"}}, "p6"),
        ({}, {"session_id": "p7"}, "p7"),
        ({"X-Halo-Program-Id": "first"}, {"metadata": {"program_id": "second"}}, "first"),
        ({"X-Session-ID": "a b%"}, {}, "a%20b%25"),
    ],
)
async def test_the_engine_learns_which_program_a_call_is_of(
    headers: dict[str, str], fields: dict[str, Any], name: str
) -> None:
    async with door() as (stand, stub):
        answer = await stand.api.post(CHAT, json=_call(**fields), headers=headers)
    assert answer.headers["x-halo-program-id"] == name
    assert answer.headers["x-halo-engine"] == "stub"
    assert stub.headers[0]["X-Session-ID"] == f"default/{name}"
    assert stub.bodies[0]["vllm_xargs"]["session_id"] == f"default/{name}"
    assert "session_id" not in stub.bodies[0]


async def test_a_client_that_names_nothing_is_known_by_what_was_said() -> None:
    async with door() as (stand, stub):
        stub.next(good("  I am here\n"), good("really"))
        first = await stand.api.post(CHAT, json=_call())
        said = {**first.json()["choices"][0]["message"], "refusal": None}
        said["content"] = said["content"].strip()
        second = await stand.api.post(CHAT, json=_call(HELLO, said, {"role": "user", "content": "sure?"}))
        stranger = await stand.api.post(CHAT, json=_call())
    names = [answer.headers["x-halo-program-id"] for answer in (first, second, stranger)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("ids", [False, True])
async def test_so_is_a_prompt_that_goes_on_from_another(ids: bool) -> None:
    prompt: Any = [5, 6, 7] if ids else "once upon"
    choice = {"index": 0, "text": " a time", "finish_reason": "stop", **({"token_ids": [8, 9]} if ids else {})}
    async with door() as (stand, stub):
        stub.next(good(choices=[choice]))
        first = await stand.api.post(COMPLETIONS, json={"model": "small", "prompt": prompt})
        longer: Any = [5, 6, 7, 8, 9, 10] if ids else "once upon a time there"
        other: Any = [5, 6, 7, 8, 10, 10] if ids else "once upon a dime there"
        names = [first.headers["x-halo-program-id"]]
        for one in (longer, other):
            answer = await stand.api.post(COMPLETIONS, json={"model": "small", "prompt": one})
            names.append(answer.headers["x-halo-program-id"])
    assert names[0] == names[1] != names[2]


async def test_a_stream_comes_as_the_engine_gives_it() -> None:
    parts = [
        delta(role="assistant", content=""),
        delta(content="he"),
        delta(content="llo"),
        delta(finish_reason="stop"),
    ]
    async with door() as (stand, stub):
        stub.next(events(*parts, {"choices": [], "usage": USAGE}), events(*parts, {"choices": [], "usage": USAGE}))
        plain = await stand.api.post(CHAT, json=_call(stream=True))
        counted = await stand.api.post(CHAT, json=_call(stream=True, stream_options={"include_usage": True}))
    assert plain.headers["content-type"].startswith("text/event-stream")
    assert [one["stream_options"] for one in stub.bodies] == [{"include_usage": True}] * 2
    assert [told["model"] for told in _events(plain.text)[:-1]] == ["small"] * 4
    assert _events(plain.text)[-1] == "[DONE]"
    assert _events(counted.text)[:4] == _events(plain.text)[:4]
    assert _events(counted.text)[4]["usage"] == USAGE


async def test_a_streamed_answer_is_known_when_the_next_turn_comes() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": ""}}
    parts = [
        delta(role="assistant", content=None),
        delta(tool_calls=[call]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"q":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ' "x"}'}}]),
        delta(finish_reason="tool_calls"),
    ]
    said = {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}},
        ],
    }
    async with door() as (stand, stub):
        stub.next(events(*parts))
        first = await stand.api.post(CHAT, json=_call(stream=True))
        result = {"role": "tool", "tool_call_id": "c1", "content": "found"}
        second = await stand.api.post(CHAT, json=_call(HELLO, said, result))
    assert first.headers["x-halo-program-id"] == second.headers["x-halo-program-id"]


async def _state_of(states: MemoryStates, name: str, doing: str) -> Any:
    async with asyncio.timeout(60):
        while (state := await states.load(ProgramId(f"default/{name}"))) is None or state.doing != doing:
            await asyncio.sleep(0.02)
    return state


async def test_while_a_tool_runs_the_state_says_so() -> None:
    states, text = MemoryStates(), "I look.\n```mswea_bash_command\ncd /x && python -m pytest -q\n```"
    async with door(states=states) as (stand, stub):
        stub.next(good(text))
        await stand.api.post(CHAT, json=_call(), headers={"X-Session-ID": "p"})
        state = await _state_of(states, "p", "tool")
    assert (state.tool, state.tool_arguments, state.engine, state.turns) == ("bash", "pytest", "stub", 1)
    assert (state.context_tokens, state.attained_tokens) == (15, 7)


async def test_the_next_turn_may_come_to_another_replica() -> None:
    states = MemoryStates()
    async with door(states=states) as (ada, _), door(states=states) as (bob, at_bob):
        named = await ada.api.post(CHAT, json=_call(), headers={"X-Session-ID": "p"})
        inferred = await ada.api.post(CHAT, json=_call({"role": "user", "content": "who am I?"}))
        before = await _state_of(states, "p", "pause")
        said = inferred.json()["choices"][0]["message"]
        await _state_of(states, inferred.headers["x-halo-program-id"], "pause")
        again = await bob.api.post(CHAT, json=_call(), headers={"X-Session-ID": "p"})
        longer = _call({"role": "user", "content": "who am I?"}, said, HELLO)
        goes_on = await bob.api.post(CHAT, json=longer)
        after = await _state_of(states, "p", "pause")
    assert again.headers["x-halo-program-id"] == named.headers["x-halo-program-id"] == "p"
    assert goes_on.headers["x-halo-program-id"] == inferred.headers["x-halo-program-id"]
    assert after.sequence == before.sequence
    assert len(at_bob.bodies) == 2


@pytest.mark.parametrize("as_ids", [False, True])
async def test_the_next_turn_of_a_prompt_without_a_name_may_come_to_another_replica(as_ids: bool) -> None:
    states, before, more = MemoryStates(), "You are terse. " * 200, " And then? " * 300

    def prompt(text: str) -> Any:
        return [ord(letter) for letter in text] if as_ids else text

    async with door(states=states) as (ada, at_ada), door(states=states) as (bob, _):
        for text in ("Hello. ", "Good day. "):
            answer = {"index": 0, "text": f"Answer to {text}", "finish_reason": "stop"}
            ids = {"token_ids": [ord(letter) for letter in answer["text"]]} if as_ids else {}
            at_ada.next(good(choices=[answer | ids]))
            first = await ada.api.post(COMPLETIONS, json={"model": "small", "prompt": prompt(before + text)})
            program = first.headers["x-halo-program-id"]
            await _state_of(states, program, "pause")
            whole = before + text + answer["text"]
            goes_on = await bob.api.post(COMPLETIONS, json={"model": "small", "prompt": prompt(whole + more)})
            assert goes_on.headers["x-halo-program-id"] == program
        other = await bob.api.post(COMPLETIONS, json={"model": "small", "prompt": prompt(before + "Hi. " + more)})
        assert other.headers["x-halo-program-id"] != program


class _Lost(MemoryStates):
    """A Redis that is gone."""

    async def load(self, program: ProgramId) -> ProgramState | None:
        raise StateUnavailable("gone")

    async def program_of_turn(self, names: Sequence[str]) -> ProgramId | None:
        raise StateUnavailable("gone")

    async def save(self, states: Sequence[ProgramState]) -> None:
        raise StateUnavailable("gone")


async def test_without_the_states_all_is_answered_and_this_replica_still_knows_its_programs() -> None:
    async with door(states=_Lost()) as (stand, _):
        first = await stand.api.post(CHAT, json=_call())
        said = first.json()["choices"][0]["message"]
        second = await stand.api.post(CHAT, json=_call(HELLO, said, HELLO))
        named = await stand.api.post(CHAT, json=_call(), headers={"X-Session-ID": "p"})
    assert first.headers["x-halo-program-id"] == second.headers["x-halo-program-id"]
    assert named.status_code == 200


async def test_tenants_have_caches_and_programs_of_their_own() -> None:
    keys = {hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in (("k1", "ada"), ("k2", "bob"))}
    async with door(tenants=keys) as (stand, stub):
        for key in ("k1", "k2"):
            head = {"Authorization": f"Bearer {key}", "X-Session-ID": "same"}
            answer = await stand.api.post(CHAT, json=_call(cache_salt="mine"), headers=head)
            assert answer.headers["x-halo-program-id"] == "same"
        _error(await stand.api.post(CHAT, json=_call()), 401, "authentication_error", "invalid_api_key")
        _error(await stand.api.get("/v1/models"), 401, "authentication_error", "invalid_api_key")
    assert [body["cache_salt"] for body in stub.bodies] == [salted("ada", "mine"), salted("bob", "mine")]
    assert [head["X-Session-ID"] for head in stub.headers] == ["ada/same", "bob/same"]


async def test_models_are_listed_and_named() -> None:
    async with service() as stand:
        listed = (await stand.api.get("/v1/models")).json()
        one = (await stand.api.get("/v1/models/small")).json()
        missing = await stand.api.get("/v1/models/meta/big")
        error = _error(missing, 404, "not_found_error", "model_not_found")
    assert listed == {"object": "list", "data": [one]}
    assert (one["id"], one["object"], one["max_model_len"]) == ("small", "model", SPEC.context_tokens)
    assert "meta/big" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "small"}, "messages"),
        ({"model": "small", "messages": []}, "messages"),
        ({"model": "small", "messages": ["hello"]}, "messages.0"),
        ({"model": "small", "messages": [{"content": "x"}]}, "messages.0.role"),
        ({"model": "small", "messages": [HELLO], "n": 0}, "n"),
        ({"model": "small", "messages": [HELLO], "stream": "yes"}, "stream"),
        ([], "body"),
    ],
)
async def test_a_call_that_does_not_fit(body: Any, param: str) -> None:
    async with service() as stand:
        error = _error(await stand.api.post(CHAT, json=body), 400, "invalid_request_error", "invalid_request")
    assert error["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (CHAT, [], "body is a list: send a JSON object"),
        (CHAT, None, "body is null: send a JSON object"),
        (CHAT, _call({**HELLO, "content": 5}), "messages.0.content is a number: send a text or a list"),
        (CHAT, _call({**HELLO, "content": {"str": 5}}), "messages.0.content is a JSON object: send a text or a list"),
        (CHAT, _call(n=0), "n should be greater than or equal to 1: change it"),
        (CHAT, _call(stream="yes", n=1.5), "stream is a text: send true or false; n is a number: send a whole number"),
        (CHAT, {"messages": []}, "model is missing: give it; messages is empty: give at least one"),
        (COMPLETIONS, {"model": "small", "prompt": None}, "prompt is null: send a text or a list"),
        (
            COMPLETIONS,
            {"model": "small", "prompt": [True]},
            "prompt must be a text, token ids, or a list of either: send one",
        ),
    ],
)
async def test_what_does_not_fit_is_told_once_for_each_place_in_the_words_of_json(
    path: str, body: Any, told: str
) -> None:
    async with service() as stand:
        answer = await stand.api.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        error = _error(answer, 400, "invalid_request_error", "invalid_request")
    assert error["message"] == f"the request cannot be taken; {told}"
    assert error["param"] == told.partition(" ")[0]


@pytest.mark.parametrize("prompt", [None, [], [1, "a"], [True], [[]], [[1], "a", -1], {}])
async def test_a_prompt_that_is_none(prompt: Any) -> None:
    async with service() as stand:
        answer = await stand.api.post(COMPLETIONS, json={"model": "small", "prompt": prompt})
        assert _error(answer, 400, "invalid_request_error", "invalid_request")["param"] == "prompt"


async def test_what_is_refused_before_it_is_read_speaks_openai_too() -> None:
    async with service(bounds=Bounds(body_bytes=1024)) as stand:
        head = {"Content-Type": "application/json"}
        large = await stand.api.post(CHAT, content=b" " * 5000, headers=head)
        _error(large, 413, "invalid_request_error", "body_too_large")
        text = await stand.api.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"})
        _error(text, 415, "invalid_request_error", "media_type_refused")
        broken = await stand.api.post(CHAT, content=b"{", headers=head)
        _error(broken, 400, "invalid_request_error", "body_unreadable")
        _error(await stand.api.get(CHAT), 405, "invalid_request_error", "method_refused")
        unknown = await stand.api.post(CHAT, json=_call(model="none"))
        _error(unknown, 404, "not_found_error", "model_not_found")


async def test_what_the_engine_refuses_the_client_hears_in_the_engines_words() -> None:
    async with door() as (stand, stub):
        stub.next(status(400, "the prompt is too long"))
        answer = await stand.api.post(CHAT, json=_call())
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "the prompt is too long"
        assert len(stub.bodies) == 1
        assert (await stand.api.post(CHAT, json=_call())).status_code == 200


async def test_what_the_engine_failed_at_is_tried_again() -> None:
    async with door() as (stand, stub):
        stub.next(status(500), status(429, headers={"Retry-After": "0"}), hang_up())
        answer = await stand.api.post(CHAT, json=_call())
        assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert len(stub.bodies) == 4


async def test_a_stream_that_breaks_off_ends_in_an_error_the_client_can_read() -> None:
    async with door() as (stand, stub):
        stub.next(events(delta(content="he"), then=hang_up()))
        told = _events((await stand.api.post(CHAT, json=_call(stream=True))).text)
    assert told[0]["choices"][0]["delta"]["content"] == "he"
    assert told[1]["error"]["code"] == "engine_died"
    assert told[2] == "[DONE]"
    assert len(stub.bodies) == 1


async def test_when_all_wait_the_next_is_told_when_to_come_again() -> None:
    slow = Scripted(
        EngineSpec(EngineId("s"), "scripted", ("small",), max_running=1), Synthetic(1), faults=lambda _: 3600.0
    )
    async with service(engines=[slow], bounds=Bounds(calls_waiting=1)) as stand:
        calls = [asyncio.create_task(stand.api.post(CHAT, json=_call())) for _ in range(3)]
        (refused,), others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        answer = await refused
        _error(answer, 429, "rate_limit_error", "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_the_engine(stream: bool) -> None:
    async with door() as (stand, stub), listening(stand.app) as url, httpx.AsyncClient(timeout=90) as client:
        stub.next(events(delta(content="he"), then=silence()) if stream else silence())
        asking = asyncio.create_task(client.post(url + CHAT, json=_call(stream=stream)))
        async with asyncio.timeout(60):
            while not stub.bodies:
                await asyncio.sleep(0.02)
            asking.cancel()
            while not stub.dropped:
                await asyncio.sleep(0.02)
        assert (await client.post(url + CHAT, json=_call())).status_code == 200


async def test_the_first_word_is_there_before_the_last_is_said() -> None:
    async with door() as (stand, stub), listening(stand.app) as url, httpx.AsyncClient(timeout=90) as client:
        stub.next(events(delta(content="he"), then=silence()))
        async with client.stream("POST", url + CHAT, json=_call(stream=True)) as answer:
            assert "he" in await anext(answer.aiter_text())


async def test_the_metrics_page_tells_of_the_calls_through_the_door() -> None:
    async with door() as (stand, stub):
        stub.next(good(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 8}}), status(400))
        await stand.api.post(CHAT, json=_call())
        await stand.api.post(CHAT, json=_call())
        await stand.api.post(CHAT, json={**_call(), "model": "nobody's"})
        page = await stand.api.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    lines = page.text.splitlines()
    for line in (
        'halo_calls_total{engine="stub",outcome="answered",source="door"} 1.0',
        'halo_calls_total{engine="stub",outcome="bad_request",source="door"} 1.0',
        'halo_calls_refused_total{code="model_unknown"} 1.0',
        'halo_tokens_total{engine="stub",kind="cached",source="door"} 8.0',
        'halo_call_seconds_count{source="door"} 1.0',
        'halo_calls_running{engine="stub",source="door"} 0.0',
        'halo_calls_running{engine="stub",source="jobs"} 0.0',
        'halo_calls_held{source="door"} 0.0',
        'halo_calls_waiting{source="jobs"} 0.0',
    ):
        assert line in lines
