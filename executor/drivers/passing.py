"""An engine's answer on its way to the client: handed on as it comes, and read along."""

import json
from collections.abc import Mapping
from typing import Protocol

from pydantic_core import from_json

from executor.clock import Clock
from executor.door.answering import AnswerSoFar
from executor.drivers.event_lines import DONE, data_of, whole_events
from executor.engines.failures import failed
from executor.engines.port import Failure, FailureClass
from executor.engines.upstream import Reply
from planner.ir.values import Json

JSON = "application/json"
EVENTS = "text/event-stream"
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Sink(Protocol):
    """Where an answer goes to: a client's connection."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None: ...

    async def write(self, part: bytes) -> None: ...


class Passing:
    """One call's answer. `begun` once the client has a part of it, at `begun_s`: then it cannot be asked for again."""

    def __init__(self, sink: Sink, body: Mapping[str, Json], clock: Clock) -> None:
        self._sink, self._clock = sink, clock
        self.arrived_s = self.begun_s = clock.now()
        self._model = body["model"]
        self._wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.headers: dict[str, str] = {}
        self.begun = False

    async def pass_whole(self, reply: Reply) -> AnswerSoFar:
        """Raises `EngineFailed` for what is no JSON object."""
        content = await read_all(reply)
        try:
            told = from_json(content)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise failed(FailureClass.ENGINE, "bad_answer", "the engine's answer is no JSON object")
        answer = AnswerSoFar()
        answer.add(told)
        await self._give(200, JSON, content if told.get("model") == self._model else self._renamed(told))
        return answer

    async def pass_events(self, reply: Reply) -> AnswerSoFar:
        """Raises `EngineFailed` where the engine broke off."""
        answer = AnswerSoFar()
        async for event in whole_events(reply.content):
            told = data_of(event)
            if told is not None:
                answer.add(told)
            if told is None or self._is_wanted(told):
                await self._give(200, EVENTS, event if told is None else self._as_asked(told, event))
        if not self.begun:
            raise failed(FailureClass.ENGINE_DIED, "engine_died", "the engine ended its answer before it began")
        return answer

    async def pass_refusal(self, status: int, content: bytes) -> None:
        """The engine says what is wrong with the request. Its words go to the client in OpenAI's shape."""
        await self._give(status, JSON, content if _is_openai_error(content) else _wrapped(content, status))

    async def break_off(self, failure: Failure) -> None:
        """The client has a part of a stream, and no more comes."""
        error = {"message": failure.message, "type": "server_error", "param": None, "code": failure.code}
        await self._sink.write(f"data: {json.dumps({'error': error})}\n\n".encode() + DONE)

    async def _give(self, status: int, kind: str, part: bytes) -> None:
        if not self.begun:
            self.begun, self.begun_s = True, self._clock.now()
            await self._sink.begin(status, {"Content-Type": kind, **self.headers})
        await self._sink.write(part)

    def _is_wanted(self, told: Mapping[str, Json]) -> bool:
        """The usage at a stream's end is asked for by the door; the client may not have."""
        return self._wants_usage or bool(told.get("choices")) or not told.get("usage")

    def _as_asked(self, told: Mapping[str, Json], event: bytes) -> bytes:
        return event if told.get("model", self._model) == self._model else b"data: " + self._renamed(told) + b"\n\n"

    def _renamed(self, told: Mapping[str, Json]) -> bytes:
        """The engine knows the model by another name than the client."""
        return json.dumps({**told, "model": self._model}).encode()


async def read_all(reply: Reply) -> bytes:
    """Raises `EngineFailed` for an answer that is too large."""
    parts, size = [], 0
    async for part in reply.content:
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise failed(FailureClass.ENGINE, "bad_answer", f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _is_openai_error(content: bytes) -> bool:
    try:
        told = from_json(content)
    except ValueError:
        return False
    return isinstance(told, dict) and isinstance(told.get("error"), dict)


def _wrapped(content: bytes, status: int) -> bytes:
    text = content.decode("utf-8", errors="replace")[:2000] or "the engine refused the request"
    return json.dumps(
        {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": str(status)}}
    ).encode()
