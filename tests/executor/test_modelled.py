"""The modelled engine behind the port: time is its clock's, and the KV is kept between calls."""

import asyncio
import json
from dataclasses import replace

import pytest

from executor.clock import ScaledClock
from executor.engines.answers import Answer, FromFunction
from executor.engines.modelled import Modelled
from executor.engines.port import EngineFailed, EngineSpec, FailureClass, GenerateRequest
from executor.engines.upstream import UpstreamRequest
from executor.engines.upstream_engine import CHAT, EngineUpstream
from planner.ir.conversation import Reply, ToolCall, Turn, continue_conversation
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling

SPEC = EngineSpec(EngineId("m1"), "modelled", ("tiny",), gpu="A100", max_running=8)


def request(text: str = "How many singers?", **fields: object) -> GenerateRequest:
    messages = ({"role": "user", "content": text},)
    return replace(GenerateRequest("c1", "p1", "tiny", messages, Sampling(max_tokens=400)), **fields)


def engine_saying(answer: Answer, *, speed: float = 1000.0, spec: EngineSpec = SPEC) -> tuple[Modelled, ScaledClock]:
    clock = ScaledClock(speed)
    return Modelled(spec, FromFunction(lambda _: answer), clock), clock


async def test_a_call_takes_as_long_as_the_gpu_would_in_the_clocks_seconds() -> None:
    engine, clock = engine_saying(Answer("x", output_tokens=300), speed=20.0)
    began = clock.now()
    await engine.generate(request())
    # 300 steps of an A100, each a little above 11 ms.
    assert 3.3 <= clock.now() - began < 15.0


async def test_a_probe_tells_the_room_of_its_kv() -> None:
    for spec in (SPEC, replace(SPEC, kv_tokens=4096)):
        engine, _ = engine_saying(Answer("x"), spec=spec)
        assert (await engine.probe()).kv_tokens == (spec.kv_tokens or 411_987)
        await engine.close()


async def test_the_next_turn_of_a_conversation_finds_its_prefix_cached() -> None:
    asks = (ToolCall("call_1", "search", '{"query": "singers"}'),)
    engine, _ = engine_saying(Answer("Let me look that up. " * 20, asks))
    opening = [{"role": "user", "content": "How many singers? " * 40}]
    first = await engine.generate(request(messages=tuple(opening)))
    turn = Turn(Reply(first.text, first.tool_calls), ("12 singers",))
    second = await engine.generate(request(messages=tuple(continue_conversation(opening, [turn]))))
    assert first.usage.cached_tokens == 0
    said = first.usage.prompt_tokens + first.usage.output_tokens
    assert said - 20 <= second.usage.cached_tokens <= second.usage.prompt_tokens
    await engine.close()


async def test_who_has_another_salt_finds_nothing_of_ones_prefix() -> None:
    engine, _ = engine_saying(Answer("x"))
    cached = []
    for salt in ("ada", "ada", "bob", None):
        answered = await engine.generate(request("How many singers? " * 40, cache_salt=salt))
        cached.append(answered.usage.cached_tokens > 0)
    assert cached == [False, True, False, False]
    await engine.close()


async def test_at_the_door_it_parts_tenants_by_the_salt_in_the_body() -> None:
    engine, _ = engine_saying(Answer("x"))
    upstream, cached = EngineUpstream(engine), []
    for salt in ("ada", "ada", "bob"):
        messages = [{"role": "user", "content": "How many singers? " * 40}]
        body = {"model": "tiny", "messages": messages, "max_tokens": 400, "cache_salt": salt}
        async with upstream.ask(UpstreamRequest(CHAT, body, {"X-Request-Id": "r"})) as given:
            told = json.loads(b"".join([part async for part in given.content]))
        cached.append(told["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
    assert cached == [False, True, False]
    await engine.close()


async def test_a_prompt_beyond_the_kv_memory_is_refused_whatever_the_spec_says() -> None:
    engine, _ = engine_saying(Answer("x"), spec=replace(SPEC, gpu="A10", context_tokens=1_000_000))
    with pytest.raises(EngineFailed) as caught:
        await engine.generate(request("x" * 400_000))
    assert caught.value.failure.code == "prompt_too_long"


async def test_closing_ends_the_calls_inside() -> None:
    engine, _ = engine_saying(Answer("x", output_tokens=400), speed=1.0)
    task = asyncio.create_task(engine.generate(request()))
    await asyncio.sleep(0.01)
    await engine.close()
    with pytest.raises(EngineFailed) as caught:
        await task
    assert (caught.value.failure.failure_class, caught.value.failure.code) == (FailureClass.ENGINE, "closed")
    assert not (await engine.probe()).ready
