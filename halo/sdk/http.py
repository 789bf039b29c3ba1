"""JSON over HTTP with the standard library: enough for one call at a time, and nothing to install."""

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from planner.ir.values import Json

_MAX_ANSWER_BYTES = 64 * 1024 * 1024


class NoAnswer(Exception):
    """The server could not be reached, broke off, or answered what is not JSON. The text is for people."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is None where the server sent nothing."""

    status: int
    body: Json

    @property
    def detail(self) -> str:
        """What the server says went wrong, in RFC 9457's form, in OpenAI's, or as it comes."""
        body: Any = self.body if isinstance(self.body, dict) else {}
        error = body.get("error")
        told = error.get("message") if isinstance(error, dict) else error
        text = body.get("detail") or told or body.get("title") or body.get("message") or self.body
        return text if isinstance(text, str) else json.dumps(text)[:500]


def request_json(
    method: str, url: str, *, body: Json = None, headers: dict[str, str] | None = None, timeout_s: float
) -> Answer:
    """Any answer with a status, errors too. Raises `NoAnswer`."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise NoAnswer(f"{url!r} is no http(s) address")
    data = None if body is None else json.dumps(body, allow_nan=False).encode()
    head = {"Accept": "application/json", **({"Content-Type": "application/json"} if data else {}), **(headers or {})}
    request = Request(url, data=data, headers=head, method=method)
    try:
        with build_opener().open(request, timeout=timeout_s) as response:
            return Answer(response.status, _decoded(response.read(_MAX_ANSWER_BYTES), url))
    except HTTPError as error:
        with error:
            return Answer(error.code, _decoded_leniently(error.read(_MAX_ANSWER_BYTES)))
    except TimeoutError:
        raise NoAnswer(f"{url} did not answer within {timeout_s:g} s") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise NoAnswer(f"{url} did not answer within {timeout_s:g} s") from None
        raise NoAnswer(f"{url} cannot be reached: {reason}") from None


def _decoded(data: bytes, url: str) -> Json:
    try:
        return json.loads(data) if data.strip() else None
    except (ValueError, RecursionError):
        raise NoAnswer(f"{url} answered what is not JSON: {data[:200]!r}") from None


def _decoded_leniently(data: bytes) -> Json:
    try:
        return json.loads(data) if data.strip() else None
    except (ValueError, RecursionError):
        return data[:500].decode(errors="replace")
