"""Live program state in Redis: seen by every replica, and gone without loss when Redis is."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kvstore.program_state import MOST_LENGTHS, ProgramState, StateUnavailable
from planner.ir.ids import EngineId, ProgramId

DAY_S = 86_400.0
_AT_ONCE = 500
#: After a failure Redis is left alone for so long: who asks meanwhile hears at once that it is not there.
_REST_S = 1.0
#: A value starts with its version, in as many digits: a clock's nanoseconds are more than a number of Lua can hold.
_DIGITS = 20

_SAVE_IF_NEWER = f"""
if redis.call('GETRANGE', KEYS[1], 0, {_DIGITS - 1}) < string.sub(ARGV[1], 1, {_DIGITS}) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
"""


class RedisStates:
    """Body of the `ProgramStates` port for any number of processes.

    A call takes `timeout_s` at most (one that writes for each 500 of what it is given); for a second after a failure
    calls are refused at once. What nobody saved again for `ttl_s` is forgotten. Raises `ValueError` for an address that
    is not Redis's; opens no connection before it is used.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "halo",
        ttl_s: float = DAY_S,
        timeout_s: float = 0.5,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            encoding_errors="surrogatepass",
        )
        self._save_if_newer = self._redis.register_script(_SAVE_IF_NEWER)
        self._programs, self._channel = f"{namespace}:program:", f"{namespace}:wake"
        self._turns, self._texts = f"{namespace}:turn:", f"{namespace}:text:"
        self._ttl_ms, self._timeout_s, self._now = int(ttl_s * 1000), timeout_s, now
        self._resting_until = float("-inf")
        self._subscription: PubSub | None = None
        self._one_waiter = asyncio.Lock()

    async def save(self, states: Sequence[ProgramState]) -> None:
        for start in range(0, len(states), _AT_ONCE):
            async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
                for state in states[start : start + _AT_ONCE]:
                    keys, value = [self._programs + state.program], _encode(state)
                    await self._save_if_newer(keys, [value, self._ttl_ms], client=pipeline)
                await pipeline.execute()

    async def load(self, program: ProgramId) -> ProgramState | None:
        async with self._bounded():
            return _decode(program, await self._redis.get(self._programs + program))

    async def forget(self, programs: Sequence[ProgramId]) -> None:
        for start in range(0, len(programs), _AT_ONCE):
            async with self._bounded():
                await self._redis.unlink(*(self._programs + one for one in programs[start : start + _AT_ONCE]))

    async def name_turns(self, turns: Sequence[tuple[str, ProgramId]]) -> None:
        for start in range(0, len(turns), _AT_ONCE):
            async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
                for name, program in turns[start : start + _AT_ONCE]:
                    pipeline.set(self._turns + name, program, px=self._ttl_ms)
                await pipeline.execute()

    async def program_of_turn(self, names: Sequence[str]) -> ProgramId | None:
        if not names:
            return None
        async with self._bounded():
            found = await self._redis.mget([self._turns + name for name in names])
        known = next((value for value in found if value is not None), None)
        name = known.decode("utf-8", "surrogatepass") if isinstance(known, bytes) else known
        return None if name is None else ProgramId(name)

    async def note_texts(self, texts: Sequence[tuple[str, int]]) -> None:
        """Lengths in the order they came: one that comes again is the newest again."""
        for start in range(0, len(texts), _AT_ONCE):
            async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
                for beginning, length in texts[start : start + _AT_ONCE]:
                    key = self._texts + beginning
                    pipeline.lrem(key, 0, str(length))
                    pipeline.lpush(key, length)
                    pipeline.ltrim(key, 0, MOST_LENGTHS - 1)
                    pipeline.pexpire(key, self._ttl_ms)
                await pipeline.execute()

    async def text_lengths(self, beginnings: Sequence[str]) -> Sequence[int]:
        if not beginnings:
            return []
        async with self._bounded(), self._redis.pipeline(transaction=False) as pipeline:
            for beginning in beginnings:
                pipeline.lrange(self._texts + beginning, 0, MOST_LENGTHS - 1)
            return [int(length) for lengths in await pipeline.execute() for length in lengths]

    async def wake(self) -> None:
        async with self._bounded():
            await self._redis.publish(self._channel, b"")

    async def wait_for_wake(self, timeout_s: float) -> bool:
        """Also true when it begins to listen, at first or again: what was said before, it cannot know."""
        async with self._one_waiter:
            try:
                return await self._listen(timeout_s)
            except StateUnavailable:
                await self._stop_listening()
                raise

    async def _listen(self, timeout_s: float) -> bool:
        async with self._bounded(timeout_s):
            if self._subscription is None:
                self._subscription = self._redis.pubsub()
                await self._subscription.subscribe(self._channel)
            # Redis's answer to the subscription comes as a message too, also when a lost connection was made again.
            woken = await self._subscription.get_message(timeout=timeout_s) is not None
            while woken and await self._subscription.get_message(timeout=0) is not None:
                """Many wakes at once are one."""
            return woken

    async def ping(self) -> None:
        self._resting_until = float("-inf")
        async with self._bounded():
            await self._redis.ping()

    async def close(self) -> None:
        await self._stop_listening()
        await self._redis.aclose()

    async def _stop_listening(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.aclose()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def _bounded(self, wait_s: float = 0) -> AsyncIterator[None]:
        """Whatever goes wrong with Redis inside is `StateUnavailable`, and so is taking longer than is promised."""
        if self._now() < self._resting_until:
            raise StateUnavailable("Redis did not answer a moment ago.")
        try:
            async with asyncio.timeout(self._timeout_s + wait_s):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._resting_until = self._now() + _REST_S
            raise StateUnavailable(f"Redis: {str(error) or 'it does not answer.'}") from error


def _encode(state: ProgramState) -> str:
    rest = [
        *(state.node, state.doing, state.since, state.engine, state.turns, state.attained_tokens, state.sequence),
        *(state.context_tokens, state.until, state.tool, state.tool_arguments),
    ]
    return f"{state.version:0{_DIGITS}d}{json.dumps(rest)}"


def _decode(program: ProgramId, stored: bytes | str | None) -> ProgramState | None:
    """None also for what another Halo wrote in another way: a state is a hint."""
    if stored is None:
        return None
    try:
        version, rest = int(stored[:_DIGITS]), json.loads(stored[_DIGITS:])
        node, doing, since, engine, *figures = rest
        turns, attained_tokens, sequence, context_tokens, until, tool, tool_arguments = figures
    except (TypeError, ValueError):
        return None
    return ProgramState(
        *(program, version, node, doing, since, engine and EngineId(engine), turns, attained_tokens, sequence),
        *(context_tokens, until, tool, tool_arguments),
    )
