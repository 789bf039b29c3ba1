"""The real engine body against a server that misbehaves: each misfortune has one failure class and one code."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from patience import at_some_pace

from executor.engines.openai_wire import failure_from
from executor.engines.port import (
    Completion,
    EngineFailed,
    EngineSpec,
    Failure,
    FailureClass,
    GenerateRequest,
    Usage,
)
from executor.engines.rungs import Rung
from executor.engines.vllm_http import VllmHttp
from planner.ir.conversation import ToolCall
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling
from tests.executor.stub_openai import (
    StubOpenAI,
    completion,
    endless_body,
    garbage,
    good,
    half_a_body,
    hang_up,
    not_http,
    silence,
    status,
    wrong_model,
)

REQUEST = GenerateRequest(
    call_id="job-1/7:answer#0",
    program="job-1/7",
    model="stub-model",
    messages=({"role": "user", "content": "How many singers?"},),
    sampling=Sampling(max_tokens=16),
    timeout_s=120,
)
#: The words of vLLM 0.32.
TOO_LONG = (
    "This model's maximum context length is 16384 tokens. However, your prompt contains at least 16385 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
)


def spec_of(url: str) -> EngineSpec:
    return EngineSpec(EngineId("e1"), "vllm", ("stub-model",), url=url)


@pytest.fixture
async def engine(stub_openai: StubOpenAI) -> AsyncIterator[VllmHttp]:
    engine = VllmHttp(spec_of(stub_openai.url), max_answer_bytes=1_000_000)
    yield engine
    await engine.close()


async def failure_of(engine: VllmHttp, request: GenerateRequest = REQUEST) -> Failure:
    with pytest.raises(EngineFailed) as caught:
        await engine.generate(request)
    return caught.value.failure


@pytest.mark.parametrize("tokens", [-5, 10**30])
async def test_a_count_that_is_none_is_a_bad_answer(engine: VllmHttp, stub_openai: StubOpenAI, tokens: int) -> None:
    stub_openai.next(good(usage={"prompt_tokens": 1, "completion_tokens": tokens}))
    with pytest.raises(EngineFailed) as failed:
        await engine.generate(REQUEST)
    assert (failed.value.failure.failure_class, failed.value.failure.code) == (FailureClass.ENGINE, "bad_answer")


async def test_an_answer_becomes_a_completion_with_its_usage(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(good("42"))
    assert await engine.generate(REQUEST) == Completion("42", Usage(12, 3, 8), (), "stop")


async def test_the_server_sees_the_call_as_openai_writes_it(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    schema = {"type": "object", "properties": {"sql": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=7, seed=3, stop=("END",))
    await engine.generate(replace(REQUEST, schema=schema, tools=(tool,), sampling=sampling))
    assert stub_openai.bodies[0] == {
        "model": "stub-model",
        "messages": [{"role": "user", "content": "How many singers?"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
        "stop": ["END"],
        "stream": False,
        "tools": [tool],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
    }
    assert stub_openai.headers[0]["X-Request-Id"] == "job-1/7:answer#0"
    assert stub_openai.headers[0]["X-Halo-Program-Id"] == "job-1/7"


async def test_names_that_no_header_can_hold_are_encoded(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    await engine.generate(replace(REQUEST, call_id="zeile\r\nX-Evil: ü", program="日本"))
    assert stub_openai.headers[0]["X-Request-Id"] == "zeile%0D%0AX-Evil:%20%C3%BC"
    assert "X-Evil" not in stub_openai.headers[0]


async def test_tool_calls_come_back_as_the_model_wrote_them(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": '}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    stub_openai.next(good(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))
    answer = await engine.generate(REQUEST)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert answer.tool_calls == (ToolCall("c1", "look", '{"at": '),)


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (400, "temperature must be non-negative", (FailureClass.ROW, "bad_request")),
        (400, TOO_LONG, (FailureClass.ROW, "prompt_too_long")),
        (413, "Request Entity Too Large", (FailureClass.ROW, "prompt_too_long")),
        (422, "messages: field required", (FailureClass.ROW, "bad_request")),
        (404, "The model `m` does not exist. Valid aliases: n.", (FailureClass.ENGINE, "wrong_model")),
        (404, "Not Found", (FailureClass.ENGINE, "no_such_path")),
        (401, "Unauthorized", (FailureClass.ENGINE, "unauthorized")),
        (429, "slow down", (FailureClass.RATE, "rate_limited")),
        (529, "overloaded", (FailureClass.RATE, "rate_limited")),
        (500, "EngineCore encountered an issue", (FailureClass.ENGINE, "engine_error")),
        (502, "Bad Gateway", (FailureClass.ENGINE, "unavailable")),
        (503, "starting", (FailureClass.ENGINE, "unavailable")),
        (504, "Gateway Timeout", (FailureClass.ENGINE, "engine_error")),
        (302, "elsewhere", (FailureClass.ENGINE, "engine_error")),
    ],
)
async def test_each_status_has_its_class(
    engine: VllmHttp, stub_openai: StubOpenAI, code: int, said: str, expected: tuple[FailureClass, str]
) -> None:
    stub_openai.next(status(code, said))
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == expected
    assert said in failure.message


def test_an_error_nested_too_deeply_to_be_read_is_told_as_it_begins() -> None:
    failure = failure_from(500, {}, b"[" * 100_000).failure
    assert failure.code == "engine_error"
    assert "[[[" in failure.message


@pytest.mark.parametrize(
    ("retry_after", "wait_s"), [("7", 7.0), ("0.5", 0.5), ("-1", None), ("inf", None), ("tomorrow", None)]
)
async def test_the_engine_says_how_long_to_wait(
    engine: VllmHttp, stub_openai: StubOpenAI, retry_after: str, wait_s: float | None
) -> None:
    stub_openai.next(status(429, headers={"Retry-After": retry_after}))
    assert (await failure_of(engine)).retry_after_s == wait_s


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b"null",
        b"{}",
        b'{"model": "stub-model", "choices": []}',
        b'{"model": "stub-model", "choices": [{"message": {"content": 3}}]}',
    ],
)
async def test_a_200_that_is_no_completion_is_a_bad_answer(
    engine: VllmHttp, stub_openai: StubOpenAI, content: bytes
) -> None:
    stub_openai.next(garbage(content))
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "bad_answer")


async def test_a_200_from_another_model_is_not_taken(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(wrong_model("gpt-2"))
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "wrong_model")
    assert "gpt-2" in failure.message


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("abort", (FailureClass.ENGINE, "aborted")),
        ("error", (FailureClass.ENGINE, "aborted")),
        ("content_filter", (FailureClass.ANSWER, "refused")),
    ],
)
async def test_an_answer_that_ended_early_is_no_completion(
    engine: VllmHttp, stub_openai: StubOpenAI, reason: str, expected: tuple[FailureClass, str]
) -> None:
    choice = completion("stub-model")["choices"][0] | {"finish_reason": reason}
    stub_openai.next(good(choices=[choice]))
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == expected


async def test_an_endless_answer_is_cut_off(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(endless_body())
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "bad_answer")
    assert "larger than" in failure.message


async def test_what_is_not_http_is_a_bad_answer(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(not_http())
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "bad_answer")


async def test_half_an_answer_means_the_engine_died(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(half_a_body())
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE_DIED, "engine_died")


async def test_a_connection_broken_in_mid_call_means_the_engine_died(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(hang_up())
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE_DIED, "engine_died")
    assert len(stub_openai.bodies) == 1


async def test_a_used_connection_broken_in_mid_call_is_not_tried_again(
    engine: VllmHttp, stub_openai: StubOpenAI
) -> None:
    await engine.generate(REQUEST)
    stub_openai.next(hang_up(after_s=1.2))
    assert (await failure_of(engine)).failure_class == FailureClass.ENGINE_DIED
    assert len(stub_openai.bodies) == 2


async def test_a_connection_closed_while_idle_is_replaced_in_silence(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    async def story(pace: float) -> None:
        """A connection that breaks later than at once was no idle one."""
        await engine.generate(REQUEST)
        stub_openai.next(hang_up(), good("again"))
        assert (await engine.generate(REQUEST)).text == "again"

    await at_some_pace(story)


async def test_a_server_that_closes_idle_connections_is_not_noticed() -> None:
    stub = StubOpenAI(keepalive_s=0.05)
    await stub.start()
    engine = VllmHttp(spec_of(stub.url))

    async def story(pace: float) -> None:
        for _ in range(3):
            assert (await engine.generate(REQUEST)).text == "hello"
            await asyncio.sleep(0.15)

    await at_some_pace(story)
    await engine.close()
    await stub.stop()


async def test_an_engine_that_died_and_stays_away_has_died(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    await engine.generate(REQUEST)
    await stub_openai.stop()
    failure = await failure_of(engine)
    assert failure.failure_class in (FailureClass.ENGINE_DIED, FailureClass.ENGINE)
    assert not (await engine.probe()).ready
    await stub_openai.start()
    assert (await engine.generate(REQUEST)).text == "hello"
    assert (await engine.probe()).ready


async def test_silence_ends_at_the_time_out_and_drops_the_call(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    async def story(pace: float) -> None:
        """The call has reached the server by then."""
        stub_openai.next(silence())
        failure = await failure_of(engine, replace(REQUEST, timeout_s=0.2 * pace))
        assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "timeout")
        await dropped(stub_openai)

    await at_some_pace(story)


async def test_cancelling_drops_the_connection(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    stub_openai.next(silence())
    call = asyncio.create_task(engine.generate(REQUEST))
    async with asyncio.timeout(60):
        while not stub_openai.bodies:
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await dropped(stub_openai)


async def dropped(stub: StubOpenAI) -> None:
    """Waits until the server has noticed that its caller is gone."""
    async with asyncio.timeout(60):
        while REQUEST.call_id not in stub.dropped:
            await asyncio.sleep(0.01)


async def test_a_refused_connection_is_an_engine_failure() -> None:
    with socket.socket() as taken:  # bound, so that nobody else listens there, and nobody listens
        taken.bind(("127.0.0.1", 0))
        engine = VllmHttp(spec_of(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        failure = await failure_of(engine)
        assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "unreachable")
        health = await engine.probe()
        assert not health.ready
        assert "cannot connect" in health.detail
        await engine.close()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/", "http://no.such.host.invalid:1"])
async def test_a_url_that_leads_nowhere_is_an_engine_failure(url: str) -> None:
    engine = VllmHttp(spec_of(url))
    failure = await failure_of(engine)
    assert (failure.failure_class, failure.code) == (FailureClass.ENGINE, "unreachable")
    assert not (await engine.probe()).ready
    await engine.close()


async def test_a_five_megabyte_prompt_is_sent_whole(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    prompt = "word " * 1_000_000
    await engine.generate(replace(REQUEST, messages=({"role": "user", "content": prompt},)))
    assert stub_openai.bodies[0]["messages"][0]["content"] == prompt


async def test_the_url_may_end_in_v1(stub_openai: StubOpenAI) -> None:
    engine = VllmHttp(spec_of(stub_openai.url + "/v1/"), api_key="secret")
    assert (await engine.generate(REQUEST)).text == "hello"
    assert stub_openai.headers[0]["Authorization"] == "Bearer secret"
    await engine.close()


async def test_a_probe_tells_models_context_and_version(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    health = await engine.probe()
    assert (health.ready, health.models, health.context_tokens) == (True, ("stub-model",), 1000)
    assert health.version == "0.0-stub"
    stub_openai.healthy = False
    assert (await engine.probe()).detail == "/health answered 503"


async def test_a_probe_tells_the_room_of_the_kv_cache(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    assert (await engine.probe()).kv_tokens is None
    stub_openai.metrics = (
        "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
        'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="300"} 1.0\n'
        'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",num_gpu_blocks="200"} 1.0\n'
    )
    again = VllmHttp(spec_of(stub_openai.url))
    assert (await again.probe()).kv_tokens == 8000
    await again.close()


async def test_a_server_that_was_away_is_asked_for_its_room_again(engine: VllmHttp, stub_openai: StubOpenAI) -> None:
    for blocks, healthy in ((10, True), (20, True), (20, False)):
        stub_openai.metrics = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1.0'
        stub_openai.healthy = healthy
        assert (await engine.probe()).kv_tokens == (160 if healthy else None)
    stub_openai.healthy = True
    assert (await engine.probe()).kv_tokens == 320


@pytest.mark.parametrize("text", ['vllm:cache_config_info{num_gpu_blocks="None",block_size="16"} 1', "nonsense", "{"])
async def test_metrics_that_do_not_tell_are_no_fault(engine: VllmHttp, stub_openai: StubOpenAI, text: str) -> None:
    stub_openai.metrics = text
    health = await engine.probe()
    assert (health.ready, health.kv_tokens) == (True, None)


async def test_an_engine_that_serves_other_models_is_not_ready(stub_openai: StubOpenAI) -> None:
    engine = VllmHttp(replace(spec_of(stub_openai.url), models=("llama", "stub-model")))
    health = await engine.probe()
    assert not health.ready
    assert health.detail == "does not serve llama; it serves stub-model"
    await engine.close()


async def test_a_closed_engine_says_so_and_closes_twice(engine: VllmHttp) -> None:
    await engine.close()
    await engine.close()
    assert (await failure_of(engine)).code == "closed"
    assert not (await engine.probe()).ready


async def test_a_model_may_have_another_name_on_the_server(stub_openai: StubOpenAI) -> None:
    spec = replace(spec_of(stub_openai.url), models=("sql",), served_names={"sql": "stub-model"})
    engine = VllmHttp(spec)
    assert (await engine.generate(replace(REQUEST, model="sql"))).text
    assert (await engine.probe()).ready
    await engine.close()
    assert stub_openai.bodies[-1]["model"] == "stub-model"


KEEPS = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",num_gpu_blocks="10"} 1.0\n'


@pytest.mark.parametrize(
    ("metrics", "stats", "rung"),
    [
        (KEEPS, None, Rung.PREFIX_CACHE),
        (KEEPS.replace("True", "False"), None, Rung.NOTHING),
        ("", None, Rung.UNKNOWN),
        (KEEPS + "halo:programs 0.0\n", {"programs": 0.0}, Rung.PLUGIN),
        (KEEPS + "halo:programs 0.0\n", {}, Rung.PREFIX_CACHE),  # its endpoint beside vLLM's own scheduler
    ],
)
async def test_the_rung_an_engine_stands_on_is_told(
    engine: VllmHttp, stub_openai: StubOpenAI, metrics: str, stats: dict[str, float] | None, rung: Rung
) -> None:

    async def story(pace: float) -> None:
        """Its statistics an engine must give within a second."""
        stub_openai.metrics, stub_openai.stats = metrics, stats
        assert (await engine.probe()).rung is rung
        stub_openai.metrics, stub_openai.stats = "", None
        assert (await engine.probe()).rung is rung
        stub_openai.healthy = False
        await engine.probe()
        stub_openai.healthy = True
        assert (await engine.probe()).rung is Rung.UNKNOWN

    await at_some_pace(story)


@pytest.mark.parametrize(("kind", "sent"), [("vllm", "pepper"), ("openai", None)])
async def test_the_salt_goes_to_servers_that_know_it(stub_openai: StubOpenAI, kind: str, sent: str | None) -> None:
    engine = VllmHttp(replace(spec_of(stub_openai.url), kind=kind))
    stub_openai.next(good())
    await engine.generate(replace(REQUEST, cache_salt="pepper"))
    assert stub_openai.bodies[-1].get("cache_salt") == sent
    await engine.close()


@pytest.mark.parametrize(("keeps", "sent"), [(True, 7), (False, None)])
async def test_the_priority_goes_to_servers_that_keep_it(
    stub_openai: StubOpenAI, keeps: bool, sent: int | None
) -> None:
    engine = VllmHttp(replace(spec_of(stub_openai.url), options={"priority_scheduling": keeps}))
    stub_openai.next(good())
    await engine.generate(replace(REQUEST, priority=7))
    assert stub_openai.bodies[-1].get("priority") == sent
    await engine.close()


async def test_adapters_are_told_from_the_model_that_they_are_of(stub_openai: StubOpenAI) -> None:
    stub_openai.adapters = ["sql-lora"]
    engine = VllmHttp(replace(spec_of(stub_openai.url), models=(stub_openai.model,), adapters=("sql-lora", "gone")))
    health = await engine.probe()
    await engine.close()
    assert (health.bases, health.adapters) == ((stub_openai.model,), ("sql-lora",))
    assert (health.ready, "does not serve gone" in health.detail) == (False, True)
