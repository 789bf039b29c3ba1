"""Plan <-> JSON text: `{"format": 1, "plan": {...}}`. The text may come from anybody."""

import json
import re
from collections import Counter
from functools import cache
from typing import Any, Literal, NoReturn

from pydantic import TypeAdapter, ValidationError

from planner.errors import PlanUnreadable, Problem
from planner.ir.plain import as_data
from planner.ir.plan import Plan
from planner.ir.values import Json, value

FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024
#: Thirty-two nested bodies and what stands in the innermost fit; the parser below us gives up at 200.
MAX_DEPTH = 192
#: Beyond this many problems the text is no plan at all, and telling each would cost more than reading it.
_MAX_TOLD = 10_000


def encode(plan: Plan) -> str:
    """The plan as JSON, fields in the order of their classes. `plan` must be valid (see `check`).

    Names inside a JSON schema keep their order: it is the order in which an engine writes the answer's fields. Raises
    `PlanUnreadable` for a text that `decode` would refuse for its size.
    """
    document = {"format": FORMAT, "plan": as_data(plan)}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    _check_size(text)
    return text


def decode(text: str | bytes) -> Plan:
    """The plan in `text`, of the right types throughout; whether it can run is `check`'s business.

    Raises `PlanUnreadable` with every problem and its place.
    """
    _check_size(text)
    document = _parse(text)
    _check_format(document)
    try:
        return _documents().validate_json(text, strict=True).plan
    except ValidationError as error:
        raise PlanUnreadable(_problems(error)) from None


@value
class _Document:
    format: Literal[1]
    plan: Plan


@cache
def _documents() -> TypeAdapter[_Document]:
    """Made at first use: importing a module builds nothing."""
    return TypeAdapter(_Document)


def _check_size(text: str | bytes) -> None:
    size = len(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        _refuse("$", f"is {size} bytes long", f"keep a plan under {MAX_BYTES} bytes; give long texts as input columns")


def _parse(text: str | bytes) -> Json:
    """The whole text as Python values: finds what the strict parser lets pass or tells badly."""
    try:
        written = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        _refuse("$", f"is not UTF-8 ({error})", "encode the text as UTF-8")
    if _depth(written) > MAX_DEPTH:
        _refuse("$", f"is nested more than {MAX_DEPTH} deep", "nest fewer bodies and expressions")
    try:
        return json.loads(written, parse_constant=_refuse_constant, object_pairs_hook=_unique_names)
    except ValueError as error:
        _refuse("$", f"is not JSON ({error})", "write the plan with `encode`")


#: A string, or the rest of the text where it never ends. Possessive, so that no text makes it slow.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> NoReturn:
    _refuse("$", f"holds {name}, which is not JSON", "use a number, or null")


def _unique_names(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        _refuse("$", f"gives {twice!r} twice in one object", "give each name once")
    return members


def _check_format(document: Json) -> None:
    if not isinstance(document, dict) or "format" not in document:
        _refuse("$", 'is no object with "format" and "plan"', "write the plan with `encode`")
    if document["format"] != FORMAT or isinstance(document["format"], bool | float):
        _refuse("format", f"is {document['format']!r}", f"this version of halo reads format {FORMAT}")


def _refuse(where: str, what: str, fix: str) -> NoReturn:
    raise PlanUnreadable((Problem(where, what, fix),))


_FIXES = {"missing": "add it", "unexpected_keyword_argument": "remove it", "json_invalid": "write JSON"}


def _problems(error: ValidationError) -> tuple[Problem, ...]:
    if error.error_count() > _MAX_TOLD:
        return (Problem("$", f"has {error.error_count()} problems", "write the plan with `encode`"),)
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return tuple(_problem(detail) for detail in details)


def _problem(detail: Any) -> Problem:
    fix = _FIXES.get(detail["type"], "change it")
    return Problem(_place(detail["loc"]), detail["msg"], fix)


def _place(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".") or "$"
