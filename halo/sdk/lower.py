"""From Python values that hold symbolic ones to the plan's expressions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from halo.sdk.schemas import NoJsonForm, missing_model_fields, model_fields, to_json
from halo.sdk.scope import Placed, Scope
from halo.sdk.shapes import ANYTHING, TEXT, Fields, Items, Shape
from halo.sdk.text import has_marks, read_text
from planner.ir.expressions import Array, Const, Expr, Field, Object
from planner.ir.values import Json

_MAX_DEPTH = 100


def lower(value: Any, scope: Scope) -> Expr:
    """The expression of any nesting of dicts, lists, tuples, ranges, pydantic models, dataclasses, JSON constants and
    symbolic values. What cannot be in a plan is reported to the scope's trace."""
    return _Lowering(scope).expr(value, ())


def shape_of_value(value: Any) -> Shape:
    """What is known of what `value` will be."""
    if isinstance(value, Placed):
        return value._halo_shape
    if isinstance(value, str):
        return TEXT
    if isinstance(value, Mapping):
        return Fields({str(name): shape_of_value(part) for name, part in value.items()})
    if isinstance(value, list | tuple):
        return Items(tuple(shape_of_value(part) for part in value))
    parts = _parts(value)
    return ANYTHING if parts is None else Fields({name: shape_of_value(part) for name, part in parts.items()})


def constant(value: Any) -> Json:
    """JSON of a value without symbolic parts. Raises `NoJsonForm`."""
    if isinstance(value, Placed):
        raise NoJsonForm("the value is known only when the program runs")
    return to_json(value)


class _Lowering:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def expr(self, value: Any, around: tuple[int, ...]) -> Expr:
        match value:
            case Placed():
                return self.scope.read(value)
            case Enum():
                return self.expr(value.value, around)
            case str():
                return read_text(str(value), self.scope)
            case None | bool() | int():
                return Const(value)
            case float():
                return self._number(value)
        if id(value) in around or len(around) > _MAX_DEPTH:
            return self._refuse("a value goes round in a cycle through itself", "build it without the cycle")
        return self._nested(value, (*around, id(value)))

    def _nested(self, value: Any, around: tuple[int, ...]) -> Expr:
        match value:
            case Mapping():
                return self._object(value, around)
            case list() | tuple() | range():
                return _array([self.expr(item, around) for item in value])
            case set() | frozenset():
                return self._refuse("a set has no order, so it has no place in a plan", "use a list: sorted(...)")
        parts = _parts(value)
        if parts is not None:
            self._check_complete(value)
            return self._object(parts, around)
        if callable(value) and not isinstance(value, type):
            name = getattr(value, "__name__", type(value).__name__)
            return self._refuse(f"`{name}` is a function, where its result is wanted", f"call it: {name}(...)")
        return self._other(value)

    def _object(self, parts: Mapping[Any, Any], around: tuple[int, ...]) -> Expr:
        found: list[Field] = []
        for name, part in parts.items():
            if isinstance(name, Placed):
                continue  # reported when it was hashed
            if not isinstance(name, str) or has_marks(name):
                self._refuse(f"the key {name!r} of a dict is no constant text", "use texts known now as keys")
                continue
            found.append(Field(str(name), self.expr(part, around)))
        if all(isinstance(field.value, Const) for field in found):
            return Const({field.name: field.value.value for field in found if isinstance(field.value, Const)})
        return Object(tuple(found))

    def _check_complete(self, value: Any) -> None:
        missing = missing_model_fields(value)
        if missing:
            name = type(value).__name__
            self._refuse(f"{name} lacks {', '.join(missing)}", f"give every field to {name}.model_construct(...)")

    def _number(self, value: float) -> Expr:
        if math.isfinite(value):
            return Const(value)
        return self._refuse(f"{value} is not a number JSON can hold", "use None or a text")

    def _other(self, value: Any) -> Expr:
        try:
            return Const(to_json(value))
        except NoJsonForm:
            kind = type(value).__name__
            return self._refuse(
                f"a value of type {kind} cannot be written as JSON, so it cannot be in a plan",
                "use texts, numbers, lists, dicts, dataclasses or pydantic models; make other objects inside a tool",
            )

    def _refuse(self, what: str, fix: str) -> Expr:
        self.scope.trace.report(what, fix)
        return Const(None)


def _array(items: list[Expr]) -> Expr:
    if all(isinstance(item, Const) for item in items):
        return Const([item.value for item in items if isinstance(item, Const)])
    return Array(tuple(items))


def _parts(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass instance or a pydantic model; None for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: getattr(value, part.name) for part in fields(value)}
    return model_fields(value)


def lift(value: Any, as_text: Callable[[str], Any]) -> Any:
    """`value` with every string in it put through `as_text`: strings that hold slots become symbolic values again."""
    match value:
        case str():
            return as_text(value)
        case list():
            return [lift(item, as_text) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(lift(item, as_text) for item in value)
        case dict():
            return {name: lift(part, as_text) for name, part in value.items()}
    return value
