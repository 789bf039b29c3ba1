"""An answer that comes through the door, and the client that may not wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from executor.drivers.door import Asked, Door, DoorRefused


class DoorResponse(Response):
    """Asks the door when it is sent. A client that goes away stops the work, also before the first word of it.

    `refused` makes the response of a call that was not done.
    """

    def __init__(self, door: Door, asked: Asked, refused: Callable[[DoorRefused], Response]) -> None:
        super().__init__()
        self._door, self._asked, self._refused = door, asked, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            gone = not answering.done()
            answering.cancel()
            results = await asyncio.gather(answering, leaving, return_exceptions=True)
        if not gone and isinstance(results[0], Exception):
            raise results[0]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._door.answer(self._asked, _Client(send))
        except DoorRefused as refused:
            await self._refused(refused)(scope, receive, send)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Client:
    """Body of the `Sink` port."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self._send = send

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        fields.append((b"cache-control", b"no-store"))
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        """The body was read; what else comes of it is of no use."""
