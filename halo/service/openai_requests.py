"""What a call must be before an engine is asked: only what Halo itself reads is checked, the rest passes on."""

from typing import Any

from fastapi import Request
from pydantic import ValidationError

from executor.door.reading import CHAT
from halo.service.json_body import read_json
from halo.service.problems import CallInvalid
from halo.service.schemas.openai import ChatCall, CompletionCall
from planner.errors import Problem
from planner.ir.values import Json


async def read_call_body(request: Request, path: str) -> dict[str, Json]:
    """The body as it was sent. Raises `CallInvalid` with all that is wrong, or `BodyUnreadable`."""
    body = read_json(await request.body())
    try:
        (ChatCall if path == CHAT else CompletionCall).model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise CallInvalid("the request cannot be taken", [_problem(detail) for detail in details]) from None
    return dict(body)


def _problem(detail: Any) -> Problem:
    where = ".".join(str(step) for step in detail["loc"]) or "body"
    return Problem(where, str(detail["msg"]).lower(), "give it" if detail["type"] == "missing" else "change it")
