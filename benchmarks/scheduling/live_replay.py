"""The same replay against real engines: their steps and their time instead of a model's.

Engines are asked on `/v1/completions` with token ids and answers of fixed length, so that a trace's lengths are what is
really computed. Blocks of one name hold the same tokens; runs of another salt share none of them.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import aiohttp

from benchmarks.scheduling.programs import Asked, Asking, Programs
from benchmarks.scheduling.replay import Replayed, Work
from benchmarks.scheduling.traces import Arriving
from executor.commands import Abort, CallMeAt, Command, Dispatch, FinishProgram
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import CallFinished, Event, WakeUp
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.ids import EngineId, NodeRef

#: Ids that every vocabulary has and none gives a meaning of its own.
_FIRST_ID, _LAST_ID = 300, 1999
_KEEPALIVE_S = 4.0  # vLLM's web server closes a connection that was idle for 5 s
_CALL_S = 600.0

_Node = tuple[NodeRef, int]


async def replay_live(
    arriving: Sequence[Arriving], fleet: Sequence[EngineSpec], core: Scheduler, asked: Asked, salt: str
) -> Replayed:
    """Run all requests to their ends. Raises `aiohttp.ClientError` where an engine fails: then nothing was measured."""
    async with _sessions(fleet) as sessions:
        return await _Live(core, Programs(asked), _Engines(fleet, sessions, salt)).run(arriving)


@asynccontextmanager
async def _sessions(fleet: Sequence[EngineSpec]) -> AsyncIterator[dict[EngineId, aiohttp.ClientSession]]:
    timeout = aiohttp.ClientTimeout(total=_CALL_S)
    sessions = {
        spec.id: aiohttp.ClientSession(
            spec.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
        )
        for spec in fleet
    }
    try:
        yield sessions
    finally:
        await asyncio.gather(*(session.close() for session in sessions.values()))


class _Engines:
    """Calls in token ids, to whichever engine."""

    def __init__(
        self, fleet: Sequence[EngineSpec], sessions: Mapping[EngineId, aiohttp.ClientSession], salt: str
    ) -> None:
        self._models = {spec.id: next(iter(spec.served_names.values()), spec.models[0]) for spec in fleet}
        self._sessions, self._salt = sessions, salt

    async def ask(self, engine: EngineId, asking: Asking, call: str) -> Usage:
        body: dict[str, Any] = {
            **{"model": self._models[engine], "prompt": prompt_ids(asking, call), "max_tokens": asking.output_tokens},
            **{"temperature": 0, "ignore_eos": True, "cache_salt": self._salt, "priority": asking.priority},
        }
        async with self._sessions[engine].post("/v1/completions", json=body, raise_for_status=True) as answer:
            usage = (await answer.json())["usage"]
        assert usage["completion_tokens"] == asking.output_tokens
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Usage(usage["prompt_tokens"], usage["completion_tokens"], cached)


def prompt_ids(asking: Asking, call: str) -> list[int]:
    """The ids of its blocks, each the same wherever its name is, and then such that no other `call` has them."""
    ids = [token for name in asking.names for token in _ids(Random(name), BLOCK_TOKENS)]
    return ids + _ids(Random(call), asking.prompt_tokens - len(ids))


def _ids(random: Random, count: int) -> list[int]:
    return random.choices(range(_FIRST_ID, _LAST_ID), k=count)


class _Live:
    """One run. What happens becomes an event when it is handled, so that time never runs backwards."""

    def __init__(self, core: Scheduler, programs: Programs, engines: _Engines) -> None:
        self._core, self._programs, self._engines = core, programs, engines
        self._happened: asyncio.Queue[Callable[[float], Event]] = asyncio.Queue()
        self._began, self._now = time.monotonic(), 0.0
        self._running: dict[_Node, asyncio.Task[None]] = {}
        self._work, self._events, self._ended = Work(), 0, 0

    async def run(self, arriving: Sequence[Arriving]) -> Replayed:
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._arrive(arriving))
            while self._ended < len(arriving):
                happened = await self._happened.get()
                self._now = time.monotonic() - self._began
                self._handle(happened(self._now))
        return Replayed(self._programs.ended(), self._work, self._events)

    async def _arrive(self, arriving: Sequence[Arriving]) -> None:
        for one in arriving:
            await asyncio.sleep(one.at - (time.monotonic() - self._began))
            self._happened.put_nowait(partial(self._programs.arrive, one))

    def _handle(self, event: Event) -> None:
        inbox = deque([event])
        while inbox:
            self._events += 1
            for command in self._core.handle(inbox.popleft()):
                if answer := self._programs.answer(command, self._now):
                    inbox.append(answer)
                else:
                    self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Dispatch(node=node, attempt=attempt):
                self._running[node, attempt] = self._tasks.create_task(self._call(command))
            case Abort(node=node, attempt=attempt):
                if running := self._running.pop((node, attempt), None):
                    running.cancel()
            case FinishProgram():
                self._programs.finish(command, self._now)
                self._ended += 1
            case CallMeAt(at=at):
                delay_s = max(0.0, at - self._now)
                asyncio.get_running_loop().call_later(delay_s, self._happened.put_nowait, WakeUp)

    async def _call(self, command: Dispatch) -> None:
        node, attempt = command.node, command.attempt
        usage = await self._engines.ask(command.engine, self._programs.asking(node), f"{node}@{attempt}")
        del self._running[node, attempt]
        self._work.add(command.engine, usage)
        self._happened.put_nowait(lambda now: CallFinished(now, node, attempt, usage))
