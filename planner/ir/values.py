"""What every value in a plan has in common: frozen, slotted, strict when it is decoded from bytes."""

import json
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ORDERED = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)

#: JSON as Python holds it. Recursive aliases cost more than they tell here, so this is documentation.
Json = Any


def added_later(*, default: Json) -> Any:
    """A field that plans did not have from the start. At its default it is not written, so that plans made before keep
    their text and their names."""
    return field(default=default, metadata={ADDED_LATER: True})


#: Marks such a field.
ADDED_LATER = "added_later"


@dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(added_later,))
def value(cls: type[T]) -> type[T]:
    """A frozen, slotted dataclass that refuses unknown fields when pydantic decodes it (see `codec`)."""
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True)(cls)


def canonical_json(data: Json) -> str:
    """One text for one value: sorted keys, no spaces. Raises `TypeError` or `ValueError` for what JSON cannot hold."""
    return _CANONICAL.encode(data)


def ordered_json(data: Json) -> str:
    """One text for one value whose names keep their order, as in a JSON schema: an engine that decodes under it writes
    the answer's fields in that order. Raises as `canonical_json` does."""
    return _ORDERED.encode(data)


def parse_json(text: str) -> Json:
    """The value of a text that somebody else wrote, such that `canonical_json` takes it back.

    Raises `ValueError` for what is no JSON: NaN and numbers that no float or integer of ours holds, and what is nested
    too deeply, too.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
