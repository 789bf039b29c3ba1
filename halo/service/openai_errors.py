"""Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}`."""

import json
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from planner.errors import Problem

#: The addresses that speak OpenAI's language; all others answer with problems.
_ADDRESSES = ("/v1/chat/completions", "/v1/completions", "/v1/models")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def speaks_openai(path: str) -> bool:
    return path.startswith(_ADDRESSES)


def error_response(
    status: int, code: str | None, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """OpenAI's clients try again after 408, 409, 429 and 5xx, and wait as `Retry-After` says."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    content = json.dumps({"error": error}).encode("ascii")
    return Response(content, status, headers=dict(headers or {}), media_type="application/json")


def message_of(detail: str, problems: Sequence[Problem]) -> str:
    """All that is wrong, in one text."""
    return "; ".join([detail, *(f"{problem.where} {problem.what}: {problem.fix}" for problem in problems)])


def param_of(problems: Sequence[Problem]) -> str | None:
    return problems[0].where if problems else None
