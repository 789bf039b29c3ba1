"""What every body that hands requests through promises."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from executor.drivers.event_lines import data_of, whole_events
from executor.engines.port import EngineFailed, EngineSpec, Failure, FailureClass, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.engines.upstream import Reply, Upstream, UpstreamRequest
from executor.engines.upstream_engine import EngineUpstream
from executor.engines.upstream_http import HttpUpstream
from planner.ir.ids import EngineId
from tests.executor.stub_openai import StubOpenAI, delta, events, hang_up, status

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


class Stand:
    """An upstream, and an engine behind it that can be made to refuse the next call, or to die of it."""

    upstream: Upstream

    def stream(self) -> None: ...

    def refuse(self) -> None: ...

    def die(self) -> None: ...


class OverHttp(Stand):
    def __init__(self, stub: StubOpenAI) -> None:
        self.stub = stub
        self.upstream = HttpUpstream(EngineSpec(EngineId("e"), "vllm", ("m",), stub.url))

    def stream(self) -> None:
        self.stub.next(events(delta(content="he"), delta(content="llo"), {"choices": [], "usage": USAGE}))

    def refuse(self) -> None:
        self.stub.next(status(400, "no"))

    def die(self) -> None:
        self.stub.next(hang_up())


class Inside(Stand):
    def __init__(self) -> None:
        self.failures: list[Failure] = []
        spec = EngineSpec(EngineId("e"), "scripted", ("m",))
        self.upstream = EngineUpstream(Scripted(spec, Synthetic(1), faults=self._fault))

    def _fault(self, _: GenerateRequest) -> Failure | None:
        return self.failures.pop() if self.failures else None

    def refuse(self) -> None:
        self.failures.append(Failure(FailureClass.ROW, "bad_request", "no"))

    def die(self) -> None:
        self.failures.append(Failure(FailureClass.ENGINE_DIED, "engine_died", "gone"))


@pytest.fixture(params=["http", "engine"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    stub = StubOpenAI("m")
    await stub.start()
    stand = OverHttp(stub) if request.param == "http" else Inside()
    yield stand
    await stand.upstream.close()
    await stand.upstream.close()
    await stub.stop()


def asked(**more: Any) -> UpstreamRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
    return UpstreamRequest(CHAT, body, {"Content-Type": "application/json", "X-Request-Id": "r1"})


@asynccontextmanager
async def reply(stand: Stand, **more: Any) -> AsyncIterator[Reply]:
    async with stand.upstream.ask(asked(**more)) as given:
        yield given


async def whole(given: Reply) -> Any:
    return json.loads(b"".join([part async for part in given.content]))


async def test_a_whole_answer(stand: Stand) -> None:
    async with reply(stand) as given:
        told = await whole(given)
    assert given.status == 200
    assert told["choices"][0]["message"]["content"]
    assert told["usage"]["prompt_tokens"] > 0


async def test_a_stream_of_events_with_usage_at_the_end(stand: Stand) -> None:
    stand.stream()
    async with reply(stand, stream=True, stream_options={"include_usage": True}) as given:
        told = [event async for event in whole_events(given.content)]
    *chunks, usage = [data for data in map(data_of, told) if data]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert usage["usage"]["completion_tokens"] > 0
    assert told[-1] == b"data: [DONE]\n\n"


async def test_what_it_refuses_it_refuses_with_a_status(stand: Stand) -> None:
    stand.refuse()
    async with reply(stand) as given:
        told = await whole(given)
    assert (given.status, told["error"]["message"]) == (400, "no")


async def test_an_engine_that_dies_fails_the_call_and_the_next_one_is_answered(stand: Stand) -> None:
    stand.die()
    with pytest.raises(EngineFailed) as caught:
        async with reply(stand) as given:
            await whole(given)
    assert caught.value.failure.failure_class is FailureClass.ENGINE_DIED
    async with reply(stand) as given:
        assert given.status == 200
        await whole(given)


async def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    upstream = HttpUpstream(EngineSpec(EngineId("e"), "vllm", ("m",), "http://127.0.0.1:1"))
    with pytest.raises(EngineFailed) as caught:
        async with upstream.ask(asked()):
            pass
    assert caught.value.failure.code == "unreachable"
    await upstream.close()
    with pytest.raises(EngineFailed, match="closed"):
        async with upstream.ask(asked()):
            pass


async def test_where_nobody_listens_hints_are_not_taken(stand: Stand) -> None:
    assert await stand.upstream.hint({"program": "p", "event": "let_go"}) is False


async def test_the_plugin_takes_hints_where_its_scheduler_is_at_work() -> None:
    stub = StubOpenAI("m")
    await stub.start()
    upstream = HttpUpstream(EngineSpec(EngineId("e"), "vllm", ("m",), stub.url))
    other = HttpUpstream(EngineSpec(EngineId("o"), "openai", ("m",), stub.url))
    told = {"program": "p", "event": "let_go"}
    stub.hint_status = 202
    assert await upstream.hint(told) is True
    assert await other.hint(told) is False
    stub.hint_taken = False
    assert await upstream.hint(told) is False
    assert stub.hints == [told, told]
    stub.hint_status = 503
    with pytest.raises(EngineFailed) as caught:
        await upstream.hint(told)
    assert caught.value.failure.code == "hint_refused"
    await stub.stop()
    with pytest.raises(EngineFailed):
        await upstream.hint(told)
    await upstream.close()
    await other.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"temperature": "hot"}, "temperature: "),
        ({"top_p": [1]}, "top_p: "),
        ({"stop": 5}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"seed": "x"}, "seed: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
            "no json schema",
        ),
        ({"response_format": "json"}, "response_format: "),
        ({"structured_outputs": {"regex": "a+"}}, "structured_outputs"),
        ({"guided_json": "{"}, "guided_json: "),
        ({"guided_json": "[" * 100_000}, "guided_json: "),
        ({"guided_choice": ["a"]}, "JSON schemas only"),
        ({"tools": [{}]}, "tools.0.function: "),
        ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools.0.function.name: "),
        ({"cache_salt": ""}, "cache_salt: "),
        ({"logprobs": True}, "no logprobs"),
        ({"logprobs": 0}, "no logprobs"),
        ({"stop": 5, "seed": "x"}, "; stop"),
    ],
)
async def test_inside_this_process_all_that_is_wrong_is_told_as_a_server_tells_it(wrong: Any, told: str) -> None:
    async with reply(Inside(), **wrong) as given:
        error = (await whole(given))["error"]
    assert given.status == 400
    assert told in error["message"]


@pytest.mark.parametrize("guide", ["response_format", "structured_outputs", "guided_json", "guided_json as text"])
async def test_inside_this_process_each_way_to_name_a_schema_bounds_the_answer(guide: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    asked = {
        "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
        "structured_outputs": {"structured_outputs": {"json": schema}},
        "guided_json": {"guided_json": schema},
        "guided_json as text": {"guided_json": json.dumps(schema)},
    }
    async with reply(Inside(), **asked[guide]) as given:
        told = await whole(given)
    assert isinstance(json.loads(told["choices"][0]["message"]["content"])["n"], int)


async def test_inside_this_process_who_sets_no_bound_gets_what_the_context_has_left() -> None:
    long = [{"role": "user", "content": "word " * 6000}]
    async with reply(Inside(), messages=long) as given:
        assert given.status == 200


async def test_a_list_of_one_prompt_is_a_prompt() -> None:
    for prompt, expected in ((["once"], 200), ("once", 200), (["once", "twice"], 400), ([1, 2], 400)):
        request = UpstreamRequest("/v1/completions", {"model": "m", "prompt": prompt}, {"X-Request-Id": "r"})
        async with Inside().upstream.ask(request) as given:
            assert given.status == expected
