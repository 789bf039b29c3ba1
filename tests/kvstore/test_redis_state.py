"""Redis may be slow, wrong, empty or gone: nobody hears more of it than `StateUnavailable`, and soon."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from kvstore.program_state import ProgramState, ProgramStates, StateUnavailable
from kvstore.redis_state import RedisStates
from planner.ir.ids import ProgramId

STATE = ProgramState(ProgramId("job/0"), 1, "draft", "call", 1.5)

EVERYTHING: dict[str, Callable[[ProgramStates], Awaitable[object]]] = {
    "save": lambda states: states.save([STATE] * 700),
    "load": lambda states: states.load(STATE.program),
    "name_turns": lambda states: states.name_turns([("turn", STATE.program)] * 700),
    "program_of_turn": lambda states: states.program_of_turn(["turn"]),
    "note_texts": lambda states: states.note_texts([("text", 7)] * 700),
    "text_lengths": lambda states: states.text_lengths(["text"]),
    "forget": lambda states: states.forget([STATE.program]),
    "wake": lambda states: states.wake(),
    "wait_for_wake": lambda states: states.wait_for_wake(0.1),
    "ping": lambda states: states.ping(),
}
#: For what a Redis that is there does.
PATIENT_S = 60.0
each_call = pytest.mark.parametrize("call", EVERYTHING.values(), ids=EVERYTHING)


@asynccontextmanager
async def server(answer: bytes | None, came: list[object] | None = None) -> AsyncIterator[str]:
    """Takes connections and answers everything with that; with None, not at all. `came` gets each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if came is not None:
            came.append(reader)
        while await reader.read(65536):
            if answer is not None:
                writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


@asynccontextmanager
async def states_at(url: str, timeout_s: float = 0.1) -> AsyncIterator[RedisStates]:
    states = RedisStates(url, timeout_s=timeout_s)
    try:
        yield states
    finally:
        await states.close()


@each_call
async def test_a_redis_that_is_not_there_is_unavailable_at_once(
    call: Callable[[ProgramStates], Awaitable[object]],
) -> None:
    async with states_at("redis://127.0.0.1:1/0") as states:
        with pytest.raises(StateUnavailable):
            await call(states)


@each_call
async def test_a_redis_that_hangs_is_unavailable(call: Callable[[ProgramStates], Awaitable[object]]) -> None:
    async with server(None) as url, states_at(url) as states:
        with pytest.raises(StateUnavailable):
            await call(states)


@each_call
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-READONLY You can't write\r\n" * 9,
        b"-NOAUTH Authentication required\r\n" * 9,
    ],
    ids=["junk", "readonly", "noauth"],
)
async def test_a_redis_that_talks_nonsense_is_unavailable(
    call: Callable[[ProgramStates], Awaitable[object]], answer: bytes
) -> None:
    async with server(answer) as url, states_at(url) as states:
        with pytest.raises(StateUnavailable):
            await call(states)


async def test_after_a_failure_nobody_waits_for_redis_until_it_had_a_rest() -> None:
    now, came = 100.0, list[object]()
    async with server(None, came) as url:
        states = RedisStates(url, timeout_s=0.1, now=lambda: now)
        with pytest.raises(StateUnavailable):
            await states.wake()

        before = len(came)
        for _ in range(100):
            with pytest.raises(StateUnavailable, match="a moment ago"):
                await states.wake()
        assert len(came) == before

        now += 1.0
        with pytest.raises(StateUnavailable, match="Redis: "):
            await states.wake()
        await states.close()


def test_an_address_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisStates("http://localhost")


@dataclass(frozen=True)
class Real:
    """States on a real Redis, the plain client to do harm with, and where the state of `job/0` lies."""

    states: RedisStates
    client: Redis
    key: str


@pytest.fixture
async def real() -> AsyncIterator[Real]:
    url = os.environ.get("HALO_TEST_REDIS_URL") or pytest.skip("HALO_TEST_REDIS_URL is not set")
    namespace = f"test-{uuid.uuid4().hex}"
    real = Real(
        RedisStates(url, namespace, ttl_s=500, timeout_s=PATIENT_S), Redis.from_url(url), f"{namespace}:program:job/0"
    )
    yield real
    await real.states.close()
    await real.client.aclose()


@pytest.mark.redis
async def test_a_state_nobody_saves_again_is_forgotten(real: Real) -> None:
    await real.states.save([STATE])

    assert 0 < await real.client.pttl(real.key) <= 500_000


@pytest.mark.redis
async def test_an_emptied_redis_starts_anew(real: Real) -> None:
    await real.states.save([STATE])

    await real.client.flushall()
    await real.client.script_flush()

    assert await real.states.load(STATE.program) is None
    await real.states.save([STATE])
    assert await real.states.load(STATE.program) == STATE


@pytest.mark.redis
async def test_a_value_of_another_make_is_no_state(real: Real) -> None:
    for junk in (b"", b"junk", b"1" * 20 + b"[1]", b"\xff" * 30):
        await real.client.set(real.key, junk)
        assert await real.states.load(STATE.program) is None


@pytest.mark.redis
async def test_a_listener_cut_off_listens_again(real: Real) -> None:
    assert await real.states.wait_for_wake(PATIENT_S)
    await real.client.client_kill_filter(_type="pubsub")

    async with asyncio.timeout(PATIENT_S):
        while not await _heard(real.states):
            await real.states.wake()


async def _heard(states: RedisStates) -> bool:
    try:
        return await states.wait_for_wake(0.2)
    except StateUnavailable:
        await states.ping()
        return False
