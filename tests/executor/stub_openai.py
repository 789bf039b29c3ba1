"""An OpenAI-compatible server on a real socket that can misbehave, one call at a time.

    stub.next(status(500), garbage())     # the next two calls; every later call is answered well

It says what it was asked: `stub.bodies`, `stub.headers`; and which calls were dropped unanswered: `stub.dropped`.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

Behaviour = Callable[["StubOpenAI", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class StubOpenAI:
    """Serves `model` on a free port of this machine between `start` and `stop`."""

    def __init__(self, model: str = "stub-model", context_tokens: int = 1000, keepalive_s: float = 60.0) -> None:
        self.model, self.context_tokens = model, context_tokens
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.dropped: list[str] = []
        self.adapters: list[str] = []
        self.healthy = True
        self.metrics = ""
        self.hints: list[dict[str, Any]] = []
        self.hint_status = 404  # 202 with halo_vllm
        self.hint_taken = True
        self.hint_waits_s = 0.0
        self.stats: dict[str, float] | None = None
        self._behaviours: deque[Behaviour] = deque()
        self._keepalive_s = keepalive_s
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def next(self, *behaviours: Behaviour) -> None:
        """What the next calls meet, in this order."""
        self._behaviours.extend(behaviours)

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/halo/hint", self._hint)
        app.router.add_get("/halo/stats", self._stats)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, keepalive_timeout=self._keepalive_s, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """May be called twice; `start` serves the same port again."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers)
        behave = self._behaviours.popleft() if self._behaviours else good()
        try:
            return await behave(self, request, body)
        except asyncio.CancelledError:
            self.dropped.append(request.headers.get("X-Request-Id", ""))
            raise

    async def _models(self, _: web.Request) -> web.Response:
        base = {"id": self.model, "max_model_len": self.context_tokens}
        adapters = [{"id": name, "parent": self.model} for name in self.adapters]
        return web.json_response({"object": "list", "data": [base, *adapters]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.metrics) if self.metrics else web.Response(status=404)

    async def _hint(self, request: web.Request) -> web.Response:
        self.hints.append(await request.json())
        await asyncio.sleep(self.hint_waits_s)
        return web.json_response({"taken": self.hint_taken}, status=self.hint_status)

    async def _stats(self, _: web.Request) -> web.Response:
        return web.Response(status=404) if self.stats is None else web.json_response(self.stats)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.0-stub"})


def completion(answering_model: str, text: str = "hello", **changes: Any) -> dict[str, Any]:
    """A chat completion as vLLM 0.32 writes it, in short. `changes` replace top-level fields."""
    message = {"role": "assistant", "content": text, "tool_calls": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": answering_model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "stop_reason": None}],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 3,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 8},
        },
    } | changes


def good(text: str = "hello", **changes: Any) -> Behaviour:
    async def behave(stub: StubOpenAI, _: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response(completion(body["model"], text, **changes))

    return behave


def events(*data: Any, then: Behaviour | None = None) -> Behaviour:
    """A stream of server-sent events, one write each. `then` comes after them instead of the end."""

    async def behave(stub: StubOpenAI, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for one in data:
            await response.write(f"data: {json.dumps({'model': body['model'], **one})}\n\n".encode())
        if then is not None:
            return await then(stub, request, body)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return behave


def delta(index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}],
    }


def status(code: int, message: str = "something is wrong", headers: Mapping[str, str] | None = None) -> Behaviour:
    async def behave(stub: StubOpenAI, _: web.Request, body: dict[str, Any]) -> web.Response:
        error = {"error": {"message": message, "type": "Error", "param": None, "code": code}}
        return web.json_response(error, status=code, headers=headers)

    return behave


def wrong_model(other: str = "another-model") -> Behaviour:
    return good(model=other)


def garbage(content: bytes = b"<html>\xff\xfe not JSON") -> Behaviour:
    """A 200 whose body is no chat completion."""

    async def behave(stub: StubOpenAI, _: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(body=content, content_type="application/json")

    return behave


def not_http() -> Behaviour:
    async def behave(stub: StubOpenAI, request: web.Request, body: dict[str, Any]) -> web.Response:
        assert request.transport is not None
        request.transport.write(b"SSH-2.0-nobody\r\n\r\n")
        request.transport.close()
        return web.Response()

    return behave


def half_a_body() -> Behaviour:
    """Promises a whole answer, sends half of it, and breaks the connection."""

    async def behave(stub: StubOpenAI, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        whole = json.dumps(completion(body["model"])).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        assert request.transport is not None
        request.transport.abort()
        return response

    return behave


def hang_up(after_s: float = 0.0) -> Behaviour:
    """Breaks the connection without a word, as an engine that is killed in mid-call."""

    async def behave(stub: StubOpenAI, request: web.Request, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(after_s)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return behave


def silence(for_s: float = 3600.0) -> Behaviour:
    async def behave(stub: StubOpenAI, _: web.Request, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(for_s)
        return web.json_response(completion(body["model"]))

    return behave


def endless_body() -> Behaviour:
    async def behave(stub: StubOpenAI, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    return behave
