"""What every engine promises, whatever its body: real (against a server on a socket), modelled, scripted."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from patience import at_some_pace

from executor.clock import ScaledClock
from executor.engines.answers import Answer, FromFunction
from executor.engines.modelled import Modelled
from executor.engines.port import Completion, Engine, EngineFailed, EngineSpec, Failure, FailureClass, GenerateRequest
from executor.engines.scripted import Fault, Scripted
from executor.engines.synthetic import Synthetic
from executor.engines.vllm_http import VllmHttp
from planner.ir.conversation import ToolCall
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling
from tests.executor.stub_openai import Behaviour, StubOpenAI

SPEC = EngineSpec(EngineId("e1"), "any", ("tiny",), gpu="H100", max_running=1, context_tokens=4000)
CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "people": {"type": "integer", "minimum": 0, "maximum": 10_000_000},
        "rivers": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name", "people", "rivers"],
    "additionalProperties": False,
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


def request(text: str = "How many singers?", **fields: Any) -> GenerateRequest:
    asked = GenerateRequest("p1:ask@1", "p1", "tiny", ({"role": "user", "content": text},), Sampling(max_tokens=200))
    return replace(asked, **fields)


def say(asked: GenerateRequest) -> Answer:
    """Prose repeats the question; schemas and tools are served from a seed. `stall` asks for a very long answer."""
    if asked.schema is not None or asked.tools:
        return Synthetic(1).answer(asked)
    question = str(asked.messages[-1]["content"])
    return Answer("x", output_tokens=3000) if question == "stall" else Answer(f"You asked: {question}")


def stall(asked: GenerateRequest) -> Fault:
    return 3600.0 if asked.messages[-1]["content"] == "stall" else None


def scripted() -> Scripted:
    return Scripted(SPEC, FromFunction(say), faults=stall)


def as_server() -> Behaviour:
    """A chat server made of the scripted engine: its answers, and its refusals in vLLM's words."""
    inside = Scripted(replace(SPEC, models=("tiny", "other")), FromFunction(say), faults=stall)

    async def behave(stub: StubOpenAI, _: web.Request, body: dict[str, Any]) -> web.Response:
        if body["model"] != "tiny":
            return _refusal(404, f"The model `{body['model']}` does not exist.")
        try:
            return web.json_response(_as_openai(body["model"], await inside.generate(_as_request(body))))
        except EngineFailed as problem:
            if problem.failure.code != "prompt_too_long":
                raise
            return _refusal(400, f"This model's maximum context length is {SPEC.context_tokens} tokens.")

    return behave


def _as_request(body: dict[str, Any]) -> GenerateRequest:
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    sampling = Sampling(body["temperature"], body["top_p"], body["max_tokens"], body.get("seed"))
    return GenerateRequest(
        "c", "p", body["model"], tuple(body["messages"]), sampling, schema, tuple(body.get("tools", ())), 3600.0
    )


def _as_openai(answering_model: str, done: Completion) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in done.tool_calls
    ]
    message = {"role": "assistant", "content": done.text or None, "tool_calls": calls}
    usage = {"prompt_tokens": done.usage.prompt_tokens, "completion_tokens": done.usage.output_tokens}
    choice = {"index": 0, "message": message, "finish_reason": done.finish_reason}
    return {"model": answering_model, "choices": [choice], "usage": usage}


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


@pytest.fixture(params=["scripted", "modelled", "vllm_http"])
async def engine(request: pytest.FixtureRequest, stub_openai: StubOpenAI) -> AsyncIterator[Engine]:
    stub_openai.model, stub_openai.context_tokens = "tiny", SPEC.context_tokens
    stub_openai.next(*[as_server()] * 100)
    bodies: dict[str, Engine] = {
        "scripted": scripted(),
        "modelled": Modelled(SPEC, FromFunction(say), ScaledClock(20.0)),
        "vllm_http": VllmHttp(replace(SPEC, url=stub_openai.url)),
    }
    yield bodies[request.param]
    for body in bodies.values():
        await body.close()


async def failure_of(engine: Engine, asked: GenerateRequest) -> Failure:
    with pytest.raises(EngineFailed) as caught:
        await engine.generate(asked)
    assert caught.value.failure.message
    return caught.value.failure


async def test_a_chat_is_answered_and_its_tokens_are_counted(engine: Engine) -> None:
    done = await engine.generate(request())
    assert (done.text, done.finish_reason, done.tool_calls) == ("You asked: How many singers?", "stop", ())
    assert done.usage.prompt_tokens > done.usage.output_tokens > 0
    assert 0 <= done.usage.cached_tokens < done.usage.prompt_tokens


async def test_the_same_greedy_request_gets_the_same_answer(engine: Engine) -> None:
    first = await engine.generate(request(schema=CITY))
    again = await engine.generate(request(schema=CITY, call_id="p1:ask@2"))
    assert first.text == again.text


async def test_an_answer_is_no_longer_than_asked(engine: Engine) -> None:
    done = await engine.generate(request("one two three " * 20, sampling=Sampling(max_tokens=5)))
    assert (done.usage.output_tokens, done.finish_reason) == (5, "length")
    assert done.text.startswith("You asked: one")


async def test_a_schema_is_kept_to(engine: Engine) -> None:
    done = await engine.generate(request(schema=CITY))
    jsonschema.Draft202012Validator(CITY).validate(json.loads(done.text))


async def test_a_tool_is_asked_for_with_arguments_that_fit(engine: Engine) -> None:
    done = await engine.generate(request(tools=(SEARCH,)))
    assert done.finish_reason == "tool_calls"
    (call,) = done.tool_calls
    assert (call.name, list(json.loads(call.arguments))) == ("search", ["query"])
    assert call == ToolCall(**asdict(call))


async def test_a_prompt_beyond_the_context_is_the_rows_own_fault(engine: Engine) -> None:
    failure = await failure_of(engine, request("word " * 4000))
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "prompt_too_long")


async def test_an_answer_that_would_not_fit_the_context_is_refused_too(engine: Engine) -> None:
    failure = await failure_of(engine, request(sampling=Sampling(max_tokens=4000)))
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "prompt_too_long")


async def test_a_model_it_does_not_serve_is_the_engines_fault(engine: Engine) -> None:
    failure = await failure_of(engine, request(model="other"))
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "wrong_model")


async def test_a_call_ends_within_its_timeout(engine: Engine) -> None:
    async def story(pace: float) -> None:
        """What takes an hour here takes a modelled engine a second: a machine may stall for so long."""
        failure = await failure_of(engine, request("stall", sampling=Sampling(max_tokens=3000), timeout_s=0.2))
        assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "timeout")

    async with asyncio.timeout(120):
        await at_some_pace(story)
        assert (await engine.generate(request())).text


async def test_a_cancelled_call_leaves_its_place_to_the_next(engine: Engine) -> None:
    """The modelled engine holds one call at a time, and the stalled one would take longer than the timeout below."""
    stalled = asyncio.create_task(engine.generate(request("stall", sampling=Sampling(max_tokens=3000))))
    await asyncio.sleep(0.05)
    stalled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stalled
    async with asyncio.timeout(60):
        done = await engine.generate(request(timeout_s=15.0))
    assert done.text == "You asked: How many singers?"


async def test_fifty_calls_at_once_get_each_its_own_answer(engine: Engine) -> None:
    asked = [request(f"Question {number}?", call_id=f"p{number}:ask@1") for number in range(50)]
    done = await asyncio.gather(*(engine.generate(each) for each in asked))
    assert [each.text for each in done] == [f"You asked: Question {number}?" for number in range(50)]


async def test_a_probe_tells_what_is_served(engine: Engine) -> None:
    health = await engine.probe()
    assert (health.ready, health.models, health.context_tokens) == (True, ("tiny",), SPEC.context_tokens)


async def test_closed_twice_it_answers_nothing_and_a_probe_says_so(engine: Engine) -> None:
    await engine.generate(request())
    await engine.close()
    await engine.close()
    health = await engine.probe()
    assert not health.ready
    assert health.detail
    failure = await failure_of(engine, request())
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "closed")
