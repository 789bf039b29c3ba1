"""JSON schemas inside a plan: is it one, and does it stay inside itself."""

from collections.abc import Iterator

import jsonschema

from planner.ir.values import Json

_PROBES: tuple[Json, ...] = (None, True, 0, "", [], {})
_POINTERS = ("$ref", "$dynamicRef")


def schema_complaint(schema: Json) -> str | None:
    """What keeps `schema` from being a JSON schema (2020-12) that validates any value and fetches nothing, or None."""
    if not isinstance(schema, dict):
        return "is no JSON object"
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        return _pointer_complaint(schema) or _loop_complaint(schema)
    except jsonschema.SchemaError as error:
        return f"is no JSON schema: at {error.json_path}: {error.message[:200]}"
    except RecursionError:
        return "is nested too deeply, or refers to itself without end"


def value_complaint(schema: Json, data: Json) -> str | None:
    """Why `data` does not fit the valid schema `schema`, or None."""
    try:
        error = next(jsonschema.Draft202012Validator(schema).iter_errors(data), None)
    except RecursionError:
        return "is nested too deeply"
    return None if error is None else f"does not fit its schema at {error.json_path}: {error.message[:200]}"


def _pointer_complaint(schema: Json) -> str | None:
    for pointer in _pointers(schema):
        if not pointer.startswith("#"):
            return f"refers to {pointer!r}, outside itself"
        if not _leads_somewhere(schema, pointer[1:]):
            return f"refers to {pointer!r}, which is not there"
    return None


def _loop_complaint(schema: Json) -> str | None:
    for probe in _PROBES:
        next(jsonschema.Draft202012Validator(schema).iter_errors(probe), None)
    return None


def _pointers(schema: Json) -> Iterator[str]:
    """Every reference in the schema, wherever it stands."""
    if isinstance(schema, dict):
        yield from (schema[key] for key in _POINTERS if isinstance(schema.get(key), str))
        for member in schema.values():
            yield from _pointers(member)
    elif isinstance(schema, list):
        for member in schema:
            yield from _pointers(member)


def _leads_somewhere(schema: Json, pointer: str) -> bool:
    if pointer and not pointer.startswith("/"):
        return pointer in _anchors(schema)
    place = schema
    for escaped in pointer.split("/")[1:]:
        step = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict) and step in place:
            place = place[step]
        else:
            return False
    return isinstance(place, dict | bool)


def _anchors(schema: Json) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (schema[key] for key in ("$anchor", "$dynamicAnchor") if isinstance(schema.get(key), str))
        for member in schema.values():
            yield from _anchors(member)
    elif isinstance(schema, list):
        for member in schema:
            yield from _anchors(member)
