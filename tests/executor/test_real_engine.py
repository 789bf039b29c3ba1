"""The real engine body against a real vLLM: what the port promises, also when a call is dropped or the engine dies."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import jsonschema
import pytest

from executor.engines.local_vllm import LocalVllm
from executor.engines.port import EngineFailed, Failure, FailureClass, GenerateRequest
from executor.engines.vllm_http import VllmHttp
from planner.ir.plan import Sampling

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

TALK = (
    {"role": "system", "content": "You write SQL."},
    {"role": "user", "content": "How many singers are there? " * 20},
)
#: Guided decoding makes this answer long, whatever the model would say.
LONG_ANSWER = {"type": "string", "minLength": 12_000}


@pytest.fixture
async def engine(real_engine: LocalVllm) -> AsyncIterator[VllmHttp]:
    engine = VllmHttp(real_engine.spec)
    yield engine
    await engine.close()


def call(call_id: str, messages: tuple[Any, ...] = TALK, **changes: Any) -> GenerateRequest:
    request = GenerateRequest(call_id, "job/0", "tiny-llama", messages, Sampling(max_tokens=24), timeout_s=600)
    return replace(request, **changes)


async def failure_of(engine: VllmHttp, request: GenerateRequest) -> Failure:
    with pytest.raises(EngineFailed) as caught:
        await engine.generate(request)
    return caught.value.failure


async def metric(engine: VllmHttp, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{engine.spec.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


async def running(engine: VllmHttp) -> float:
    return await metric(engine, "vllm:num_requests_running")


async def generated(engine: VllmHttp) -> float:
    return await metric(engine, "vllm:generation_tokens_total")


async def until_running(engine: VllmHttp, calls: int, seconds: float = 600) -> None:
    async with asyncio.timeout(seconds):
        while await running(engine) != calls:
            await asyncio.sleep(0.05)


async def begun(engine: VllmHttp, endless: GenerateRequest) -> asyncio.Task[Any]:
    """The call, once it runs inside the engine; raises what the call raised if it ended before."""
    task = asyncio.create_task(engine.generate(endless))
    seen = asyncio.create_task(until_running(engine, 1))
    await asyncio.wait((task, seen), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        seen.cancel()
        pytest.fail(f"the call ended before it was seen to run: {task.exception() or task.result()}")
    await seen
    return task


async def test_a_probe_tells_what_vllm_serves(engine: VllmHttp) -> None:
    health = await engine.probe()
    assert health.ready
    assert (health.models, health.context_tokens, health.version) == (("tiny-llama",), 16_384, "0.32.0")


async def test_messages_of_every_role_go_through_the_chat_template(engine: VllmHttp) -> None:
    look = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    asked = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"table": "singer"}'}}
    talk = (
        *TALK,
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c1", "content": "singer(singer_id, name)"},
    )
    answer = await engine.generate(call("template", talk, tools=(look,)))
    prompt = await prompt_of(engine, talk, look)
    assert "<|im_start|>tool\nsinger(singer_id, name)<|im_end|>" in prompt["text"]
    assert '"name": "look", "arguments": {"table": "singer"}' in prompt["text"]
    assert prompt["text"].endswith("<|im_start|>assistant\n")
    assert answer.usage.prompt_tokens == prompt["count"]


async def prompt_of(engine: VllmHttp, messages: tuple[Any, ...], tool: Any) -> dict[str, Any]:
    """What vLLM makes of the messages, by its own account."""
    async with aiohttp.ClientSession(engine.spec.url) as session:
        question = {"model": "tiny-llama", "messages": messages, "tools": [tool]}
        async with session.post("/tokenize", json=question) as answer:
            tokens = await answer.json()
        async with session.post("/detokenize", json={"model": "tiny-llama", "tokens": tokens["tokens"]}) as answer:
            text = (await answer.json())["prompt"]
    return {"count": tokens["count"], "text": text}


async def test_the_same_greedy_call_gives_the_same_answer_and_hits_the_cache(engine: VllmHttp) -> None:
    talk = ({"role": "user", "content": "Which stadium has the highest capacity? " * 20},)
    first = await engine.generate(call("cache-1", talk))
    again = await engine.generate(call("cache-2", talk))
    assert first.text == again.text
    assert first.usage.cached_tokens == 0
    whole_blocks = first.usage.prompt_tokens // 32 * 32
    assert again.usage.cached_tokens in (whole_blocks, whole_blocks - 32)
    assert 0 < again.usage.output_tokens <= 24


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_guided_json_fits_its_schema(engine: VllmHttp, temperature: float) -> None:
    schema = {
        "type": "object",
        "properties": {
            "sql": {"type": "string", "maxLength": 60},
            "tables": {"type": "array", "items": {"enum": ["singer", "concert"]}, "maxItems": 3},
            "sure": {"type": "boolean"},
        },
        "required": ["sql", "tables", "sure"],
        "additionalProperties": False,
    }
    sampling = Sampling(temperature=temperature, max_tokens=200)
    calls = [call(f"json-{temperature}-{n}", schema=schema, sampling=replace(sampling, seed=n)) for n in range(8)]
    for answer in await asyncio.gather(*map(engine.generate, calls)):
        assert answer.finish_reason == "stop"
        jsonschema.validate(json.loads(answer.text), schema)


async def test_a_seed_fixes_a_sampled_answer(engine: VllmHttp) -> None:
    def sampled(seed: int) -> GenerateRequest:
        return call(f"seed-{seed}", sampling=Sampling(temperature=1.0, max_tokens=40, seed=seed))

    one, again, other = [(await engine.generate(sampled(seed))).text for seed in (1, 1, 2)]
    assert one == again != other


async def test_many_seeded_calls_with_long_prompts_run_side_by_side(engine: VllmHttp) -> None:
    def seeded(n: int) -> GenerateRequest:
        prompt = {"role": "user", "content": f"Question {n} " * 100}
        return call(f"many-{n}", (prompt,), sampling=Sampling(temperature=0.7, max_tokens=24, seed=n))

    calls = [seeded(n) for n in range(100)]
    answers = await asyncio.gather(*map(engine.generate, calls))
    assert len(answers) == 100


async def test_a_cancelled_call_stops_inside_the_engine(engine: VllmHttp) -> None:
    await until_running(engine, 0)
    before = await generated(engine)
    task = await begun(engine, call("cancel", schema=LONG_ANSWER, sampling=Sampling(max_tokens=15_000)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_running(engine, 0)
    made, last = await generated(engine), -1.0
    async with asyncio.timeout(600):
        while made != last:  # the last tokens are counted after their call has left
            await asyncio.sleep(0.5)
            made, last = await generated(engine), made
    assert made - before < 15_000


async def test_a_call_that_timed_out_stops_inside_the_engine(engine: VllmHttp) -> None:
    before = await generated(engine)
    endless = call("timeout", schema=LONG_ANSWER, sampling=Sampling(max_tokens=15_000), timeout_s=1)
    failure = await failure_of(engine, endless)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "timeout")
    await until_running(engine, 0)
    assert await generated(engine) - before < 15_000


@pytest.mark.parametrize("words", [20_000, 1_000_000])
async def test_a_prompt_over_the_context_is_the_rows_fault(engine: VllmHttp, words: int) -> None:
    failure = await failure_of(engine, call("long", ({"role": "user", "content": "word " * words},)))
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "prompt_too_long")
    assert "16384" in failure.message


async def test_a_model_it_does_not_serve_is_the_engines_fault(engine: VllmHttp) -> None:
    failure = await failure_of(engine, call("model", model="llama-70b"))
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "wrong_model")
    assert "tiny-llama" in failure.message


async def test_a_schema_that_is_none_is_the_rows_fault(engine: VllmHttp) -> None:
    failure = await failure_of(engine, call("schema", schema={"type": "nonsense"}))
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "bad_request")


async def test_connections_that_vllm_closed_while_idle_go_unnoticed(engine: VllmHttp) -> None:
    await asyncio.gather(*(engine.generate(call(f"warm-{n}")) for n in range(8)))
    await asyncio.sleep(5.2)
    await asyncio.gather(*(engine.generate(call(f"idle-{n}")) for n in range(8)))


async def test_an_engine_killed_in_mid_call_has_died_and_comes_back(engine: VllmHttp, real_engine: LocalVllm) -> None:
    restarts = real_engine.restarts
    task = await begun(engine, call("killed", schema=LONG_ANSWER, sampling=Sampling(max_tokens=15_000)))
    assert real_engine.pid is not None
    os.kill(real_engine.pid, signal.SIGKILL)
    with pytest.raises(EngineFailed) as caught:
        await task
    assert caught.value.failure.failure_class == FailureClass.ENGINE_DIED
    async with asyncio.timeout(900):
        while real_engine.restarts == restarts or not (await engine.probe()).ready:
            await asyncio.sleep(0.5)
    assert real_engine.restarts == restarts + 1
    assert (await engine.generate(call("back"))).usage.output_tokens > 0
