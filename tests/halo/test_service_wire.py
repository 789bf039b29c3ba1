"""Who sends too much reads why: over real sockets, with clients that look at the answer when they have sent all."""

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from service_stand import listening, service
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from halo.service.problems import BodyTooLarge, problem_response
from halo.service.wire import Dropped, Wire
from halo.settings import Bounds

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
#: More than the buffers of two sockets hold.
LARGE = 24 * 1024 * 1024


def _post(url: str, path: str, body: Any, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
    """Sends all, then reads: as `http.client`, and all that is built on it, does."""
    client = HTTPConnection(url.removeprefix("http://"), timeout=120)
    try:
        client.request("POST", path, body, headers)
        answer = client.getresponse()
        return answer, answer.read()
    finally:
        client.close()


def _pieces() -> Iterator[bytes]:
    for _ in range(LARGE // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "code"), [(CHAT, "body_too_large"), ("/v1/runs", "urn:halo:problem:body-too-large")])
async def test_who_sends_too_much_reads_how_much_may_be_sent(chunked: bool, path: str, code: str) -> None:
    body = _pieces() if chunked else b" " * LARGE
    async with service(bounds=Bounds(body_bytes=65536)) as stand, listening(stand.app) as url:
        answer, text = await asyncio.to_thread(_post, url, path, body, JSON)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert code in text.decode()
    assert "larger than 65536 bytes" in text.decode()


async def test_who_is_refused_for_something_else_reads_that() -> None:
    async with service(tenants={"0" * 64: "ada"}) as stand, listening(stand.app) as url:
        without_key, text = await asyncio.to_thread(_post, url, CHAT, b" " * 8 * 1024 * 1024, JSON)
        plain, _ = await asyncio.to_thread(_post, url, CHAT, b" " * LARGE, {"Content-Type": "text/plain"})
    assert (without_key.status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key")
    assert plain.status == 413


async def test_who_waits_to_be_told_to_go_on_is_told_no_and_need_not_send() -> None:
    async with service(bounds=Bounds(body_bytes=1024)) as stand, listening(stand.app) as url:
        reader, writer = await _dial(url)
        writer.write(_head(LARGE, "Expect: 100-continue\r\n"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


@pytest.mark.parametrize("dropped", [Dropped(most_bytes=1024), Dropped(most_s=0.05)], ids=["too much", "too slow"])
async def test_nobody_is_heard_out_for_ever(dropped: Dropped) -> None:
    async with listening(Wire(_never_asked, 1024, dropped)) as url:
        reader, writer = await _dial(url)
        writer.write(_head(LARGE) + b" " * 4096)
        answer = await reader.read()  # until the connection is closed
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_what_is_too_much_reaches_no_route() -> None:
    seen = 0

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        try:
            while (message := await receive()).get("more_body"):
                seen += len(message["body"])
        except BodyTooLarge as refused:
            await problem_response(refused)(scope, receive, send)

    async with listening(Wire(route, 1024 * 1024)) as url:
        answer, _ = await asyncio.to_thread(_post, url, CHAT, _pieces(), JSON)
    assert answer.status == 413
    assert seen <= 1024 * 1024


async def test_a_connection_is_kept_where_all_was_read() -> None:
    async with service() as stand, listening(stand.app) as url:
        answer, _ = await asyncio.to_thread(_post, url, "/v1/runs", b"{}", JSON)
    assert (answer.status, answer.headers["connection"]) == (422, None)


async def _never_asked(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=500)(scope, receive, send)


async def _dial(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def _head(length: int, more: str = "") -> bytes:
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}"
    return f"POST {CHAT} HTTP/1.1\r\n{fields}\r\n".encode("ascii")
