"""What engines say of their KV caches reaches the core as events; a real vLLM says it as expected."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from executor.core.engine_cache import EngineCache
from executor.drivers.kv_telling import follow_kv_events
from executor.engines.local_recipe import free_port
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.vllm_http import VllmHttp
from executor.events import CacheTold, CacheUntold
from executor.journal import decode_events, encode_event
from executor.prompt_blocks import prompt_blocks
from kvstore.kv_events import AllCleared, BlocksRemoved, BlocksStored
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling

msgspec = pytest.importorskip("msgspec")
pytest.importorskip("zmq")

from zmq import SocketType  # noqa: E402
from zmq.asyncio import Context  # noqa: E402

Told = CacheTold | CacheUntold
SPEC = EngineSpec(EngineId("e"), "vllm", ("tiny-llama",), url="http://127.0.0.1:1")


@asynccontextmanager
async def following(spec: EngineSpec, post: Callable[[Told], None]) -> AsyncIterator[None]:
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[None, None, None]) -> None:
        tasks.append(asyncio.create_task(work))

    follow_kv_events([SPEC, spec], lambda: 7.0, post, spawn)
    assert len(tasks) == 1  # the other publishes nothing
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(done: Callable[[], bool], seconds: float = 300) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.01)


async def test_events_come_with_the_programs_own_id() -> None:
    context, posted = Context(), list[Told]()
    publisher = context.socket(SocketType.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    event = {"type": "BlockStored", "block_hashes": [5], "parent_block_hash": None, "block_size": 32}
    async with following(replace(SPEC, kv_events=f"tcp://127.0.0.1:{port}"), posted.append):
        number, payload = 0, msgspec.msgpack.encode([0.0, [event | {"session_id": "tenant/caf%C3%A9"}]])
        async with asyncio.timeout(60):
            while not posted:
                await publisher.send_multipart((b"", number.to_bytes(8, "big"), payload))
                number += 1
                await asyncio.sleep(0.01)
    context.destroy(linger=0)
    assert posted[-1] == CacheTold(7.0, SPEC.id, (BlocksStored((5,), None, 32, "tenant/café"),))


def test_a_journal_gives_back_what_was_told() -> None:
    events = (BlocksStored((2**63 + 5, 6), None, 32, "p"), BlocksStored((7,), 6, 32), BlocksRemoved((5,)), AllCleared())
    told = [CacheTold(1.0, SPEC.id, events), CacheUntold(2.0, SPEC.id)]
    assert list(decode_events(map(encode_event, told))) == told


@dataclass(eq=False)
class Call:
    prefix: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int = 8
    own_kv_tokens: float = 0.0


@pytest.mark.engine
@pytest.mark.timeout(1200)
async def test_a_real_engine_tells_what_it_holds_and_what_it_gave_up(real_engine_factory: Any) -> None:
    events, replay = free_port(), free_port()
    publishes = {
        **{"enable_kv_cache_events": True, "publisher": "zmq"},
        **{"endpoint": f"tcp://*:{events}", "replay_endpoint": f"tcp://*:{replay}"},
    }
    extra = ("--kv-events-config", json.dumps(publishes))
    (local,) = real_engine_factory(
        {"extra": extra, "kv_blocks": 136, "context_tokens": 4_096, "start_timeout_s": 900.0}
    )
    spec = replace(local.spec, kv_events=f"tcp://127.0.0.1:{events}", kv_replay=f"tcp://127.0.0.1:{replay}")
    cache, posted = EngineCache(spec), list[Told]()

    def post(told: Told) -> None:
        posted.append(told)
        cache.told(told.events) if isinstance(told, CacheTold) else cache.untold()

    async def ask(program: str, text: str) -> Call:
        request = GenerateRequest(f"{program}/1", program, "tiny-llama", _said(text), Sampling(max_tokens=8))
        blocks = prompt_blocks("tiny-llama", request.messages)
        call = Call(blocks, len(text) // 4)
        cache.enter(call)
        completion = await engine.generate(request)
        cache.learn(call.prompt_tokens, completion.usage.prompt_tokens)
        cache.found(call, program, completion.usage)
        cache.leave(call)
        return call

    engine = VllmHttp(spec)
    try:
        await ask("before anybody listens", "It was a bright cold day in April. " * 10)
        async with following(spec, post):
            first = await ask("job/first", "The quick brown fox jumps over the lazy dog. " * 40)
            await until(lambda: any(_is_of(told, "job/first") for told in posted))
            assert any(_is_of(told, "before anybody listens") for told in posted), "replayed"
            assert not any(isinstance(told, CacheUntold) for told in posted)
            assert cache.match(first.prefix) == len(first.prefix)
            for number in range(12):
                await ask(f"job/{number}", f"Story {number} of another program is told here. " * 60)
            await until(lambda: cache.match(first.prefix) == 0)
    finally:
        await engine.close()
    assert any(isinstance(event, BlocksRemoved) for told in posted for event in getattr(told, "events", ()))


def _said(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def _is_of(told: Told, program: str) -> bool:
    events = told.events if isinstance(told, CacheTold) else ()
    return any(isinstance(event, BlocksStored) and event.session == program for event in events)
