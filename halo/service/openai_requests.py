"""What a call must be before an engine is asked: only what Halo itself reads is checked, the rest passes on."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
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
        raise CallInvalid("the request cannot be taken", list(_problems(error, body))) from None
    return dict(body)


#: What a value had to be, by the type of pydantic's error.
_WANTED: Mapping[str, str] = {
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
    "list_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
_NAMED: Mapping[type, str] = {
    dict: "a JSON object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
#: What else is said of it, and the fix.
_SAID: Mapping[str, tuple[str, str]] = {
    "missing": ("is missing", "give it"),
    "too_short": ("is empty", "give at least one"),
    "string_too_short": ("is empty", "give one"),
}


def _problems(error: ValidationError, body: Json) -> Iterator[Problem]:
    """One for each place: a value that may be of several types fails once for each of them."""
    details = error.errors(include_url=False)
    for where, of_place in groupby(details, lambda detail: _place(detail, body)):
        yield _problem(where, list(of_place))


def _place(detail: Any, body: Json) -> str:
    """As the client wrote it: behind the value, pydantic goes on to the types that it may be of."""
    steps, depth, value = detail["loc"], 0, body
    while value is not detail["input"]:
        value, depth = value[steps[depth]], depth + 1
    if detail["type"] == "missing":
        depth += 1
    return ".".join(map(str, steps[:depth])) or "body"


def _problem(where: str, details: Sequence[Any]) -> Problem:
    first, kinds = details[0], [detail["type"] for detail in details]
    if all(kind in _WANTED for kind in kinds):
        return Problem(
            where, f"is {_NAMED[type(first['input'])]}", f"send {' or '.join(_WANTED[kind] for kind in kinds)}"
        )
    if kinds[0] in _SAID:
        return Problem(where, *_SAID[kinds[0]])
    said = str(first["msg"]).lower().removeprefix("input ").removeprefix("string ")
    return Problem(where, said, (first.get("ctx") or {}).get("fix", "change it"))
