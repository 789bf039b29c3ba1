"""What is refused before a route sees it: bodies that are too long, packed, or of another type than JSON."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halo.service.problems import BodyTooLarge, MediaTypeRefused, problem_response

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Wire:
    """Counts a body as it comes in, chunked or not, and stops reading at `body_bytes`."""

    def __init__(self, app: ASGIApp, body_bytes: int) -> None:
        self._app, self._body_bytes = app, body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await problem_response(refusal, scope["path"])(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _refusal(self, method: str, headers: Headers) -> Exception | None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._body_bytes:
            return BodyTooLarge(self._body_bytes)
        if headers.get("content-encoding", "identity") != "identity":
            return MediaTypeRefused("packed bodies are not taken; send it without a Content-Encoding")
        has_body = length != "0" or "transfer-encoding" in headers
        if method in _WITH_BODY and has_body and not _is_json(headers.get("content-type", "")):
            return MediaTypeRefused("send JSON, with the header Content-Type: application/json")
        return None

    def _counting(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes:
                raise BodyTooLarge(self._body_bytes)
            return message

        return counted


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
