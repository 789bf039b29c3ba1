"""Replays programs on an engine: each prompt holds the very tokens this engine answered before, and tools really take
their time.

The engine is asked on `/v1/completions` with token ids and answers of fixed length, as a stream, so that the first
token's time is known.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.kv.hints import Telling, fields_for, notes_after
from benchmarks.kv.programs import Load, Program, new_token_ids
from benchmarks.kv.results import ProgramResult, TurnResult

#: A stream's first part holds the whole prompt's ids in one line.
LONGEST_LINE_BYTES = 1024 * 1024
#: vLLM's web server closes a connection that was idle for 5 s.
KEEPALIVE_S = 4.0
TURN_TIMEOUT_S = 1200.0


class TurnFailed(Exception):
    """The engine gave no whole answer to one turn."""


async def replay(load: Load, url: str, model: str, telling: Telling, salt: str) -> list[ProgramResult]:
    """Every program's result, in the load's order. Programs of another `salt` share no prefix with these."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)
    timeout = aiohttp.ClientTimeout(total=TURN_TIMEOUT_S)
    async with aiohttp.ClientSession(
        url, connector=connector, timeout=timeout, read_bufsize=LONGEST_LINE_BYTES
    ) as session:
        run = _Replay(session, model, telling, salt)
        if load.arrivals_s is None:
            return await _closed(run, load)
        return await asyncio.gather(*map(run.program, load.programs, load.arrivals_s))


async def _closed(run: "_Replay", load: Load) -> list[ProgramResult]:
    free = asyncio.Semaphore(load.at_once)

    async def when_free(program: Program) -> ProgramResult:
        async with free:
            return await run.program(program, run.now_s())

    return await asyncio.gather(*map(when_free, load.programs))


@dataclass(slots=True)
class _Replay:
    session: aiohttp.ClientSession
    model: str
    telling: Telling
    salt: str
    begun: float = field(default_factory=time.monotonic)

    def now_s(self) -> float:
        return time.monotonic() - self.begun

    async def program(self, program: Program, arrival_s: float) -> ProgramResult:
        await asyncio.sleep(arrival_s - self.now_s())
        context, done = list[int](), list[TurnResult]()
        try:
            for number, turn in enumerate(program.turns):
                context += new_token_ids(program, number, self.salt)
                answer, result = await self._turn(program, number, context, arrival_s)
                context += answer
                done.append(result)
                await self._tool(program, number, turn.pause_s)
        except TurnFailed as problem:
            return ProgramResult(program.id, arrival_s, self.now_s(), tuple(done), str(problem))
        return ProgramResult(program.id, arrival_s, self.now_s(), tuple(done))

    async def _tool(self, program: Program, number: int, pause_s: float) -> None:
        """Waits for as long as the recorded tool took; telling of it takes none of that time."""
        until_s = self.now_s() + pause_s
        for note in notes_after(program, number, self.telling, self.salt):
            await self._tell(note)
        await asyncio.sleep(until_s - self.now_s())

    async def _turn(
        self, program: Program, number: int, prompt: list[int], arrival_s: float
    ) -> tuple[list[int], TurnResult]:
        """The answer's tokens, and how it went. Raises `TurnFailed`."""
        wanted = program.turns[number].output_tokens
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": wanted,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            **fields_for(program, number, arrival_s, self.telling, self.salt),
        }
        sent_s, first_s, answer, usage = self.now_s(), 0.0, list[int](), dict[str, Any]()
        async for part in self._stream(body):
            for choice in part["choices"]:
                answer += choice.get("token_ids") or ()
                first_s = first_s or self.now_s()
            usage = part.get("usage") or usage
        if len(answer) != wanted or not usage:
            raise TurnFailed(f"{len(answer)} tokens of {wanted} came")
        return answer, TurnResult(
            sent_s=sent_s,
            ttft_s=first_s - sent_s,
            seconds=self.now_s() - sent_s,
            prompt_tokens=len(prompt),
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            output_tokens=wanted,
        )

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self.session.post("/v1/completions", json=body) as answer:
                if answer.status != 200:
                    raise TurnFailed(f"status {answer.status}: {(await answer.text())[:200]}")
                async for line in answer.content:
                    text = line.decode().strip().removeprefix("data: ")
                    if text and text != "[DONE]":
                        yield json.loads(text)
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise TurnFailed(f"{type(problem).__name__}: {problem}") from problem

    async def _tell(self, note: dict[str, Any]) -> None:
        """An arm that tells is not measured where nobody listens. Raises `TurnFailed`."""
        try:
            async with self.session.post(note["path"], json=note["body"]) as answer:
                if answer.status >= 300:
                    raise TurnFailed(f"the engine takes no hints at {note['path']}: status {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise TurnFailed(f"{type(problem).__name__}: {problem}") from problem
