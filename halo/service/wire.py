"""What is refused before a route sees it: bodies that are too long, packed, or of another type than JSON."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halo.service.problems import BodyTooLarge, MediaTypeRefused, problem_response

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Dropped:
    """How much of what comes after an answer is taken and dropped, and for how long."""

    most_bytes: int = 64 * 1024 * 1024
    most_s: float = 30.0


class Wire:
    """Counts a body as it comes in, chunked or not: routes see no more than `body_bytes` of it.

    Who is answered before all was sent may not look at the answer until it is, and on a closed connection never sees
    it: the rest is taken and `dropped` first. Then the connection is closed.
    """

    def __init__(self, app: ASGIApp, body_bytes: int, dropped: Dropped | None = None) -> None:
        self._app, self._body_bytes, self._dropped = app, body_bytes, dropped or Dropped()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self._body_bytes, _has_body(headers))
        answer = _Answer(send, body, self._dropped)
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await problem_response(refusal, scope["path"])(scope, body.read, answer.send)
            return
        await self._app(scope, body.read, answer.send)

    def _refusal(self, method: str, headers: Headers) -> Exception | None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._body_bytes:
            return BodyTooLarge(self._body_bytes)
        if headers.get("content-encoding", "identity") != "identity":
            return MediaTypeRefused("packed bodies are not taken; send it without a Content-Encoding")
        if method in _WITH_BODY and _has_body(headers) and not _is_json(headers.get("content-type", "")):
            return MediaTypeRefused("send JSON, with the header Content-Type: application/json")
        return None


class _Body:
    """Of one request: how much of it has come; `all_came` says whether that is all."""

    def __init__(self, receive: Receive, most_bytes: int, expected: bool) -> None:
        self._receive, self._most_bytes = receive, most_bytes
        self._bytes, self.all_came = 0, not expected

    async def read(self) -> Message:
        """The next of it. Raises `BodyTooLarge`."""
        message = await self._next()
        if self._bytes > self._most_bytes:
            raise BodyTooLarge(self._most_bytes)
        return message

    async def drop(self, most_bytes: int) -> None:
        """Takes what else comes: at most so much."""
        until = self._bytes + most_bytes
        while not self.all_came and self._bytes < until:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self.all_came = not message.get("more_body", False)
        return message


class _Answer:
    """Goes out at once and ends when the body has: a client that looks sees it early, others when they have sent."""

    def __init__(self, send: Send, body: _Body, dropped: Dropped) -> None:
        self._send, self._body, self._dropped = send, body, dropped

    async def send(self, message: Message) -> None:
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if message["type"] == "http.response.start" and not self._body.all_came:
            MutableHeaders(scope=message)["connection"] = "close"
        if self._body.all_came or not ends:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._hear_out()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hear_out(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._dropped.most_s):
                await self._body.drop(self._dropped.most_bytes)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
