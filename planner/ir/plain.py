"""A plan's values as plain JSON data."""

from dataclasses import Field, fields, is_dataclass
from typing import Any

from planner.ir.values import ADDED_LATER, Json


def as_data(node: object) -> Json:
    """Dicts and lists in place of dataclasses and tuples. Equal plans give equal data: a `float` field holds a float.

    Without the last, `timeout_s=30` and `timeout_s=30.0` would be one plan with two texts.
    """
    if is_dataclass(node):
        return {
            field.name: _member(getattr(node, field.name), field.type)
            for field in fields(node)
            if _written(field, node)
        }
    if isinstance(node, tuple):
        return [as_data(member) for member in node]
    return node


def _written(field: Field[Any], node: object) -> bool:
    return ADDED_LATER not in field.metadata or getattr(node, field.name) != field.default


def _member(member: object, annotation: Any) -> Json:
    return float(member) if annotation is float and isinstance(member, int) else as_data(member)
