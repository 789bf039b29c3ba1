"""What an expression is worth, given the row and the outputs so far. The one definition, for every driver."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from planner.ir.expressions import Array, Blocks, Column, Compare, Concat, Const, Expr, Object, Output, Path
from planner.ir.ids import StageId
from planner.ir.values import Json, canonical_json


class EvaluationFailed(Exception):
    """A value is not what the plan takes it for: a missing field, an index out of range, an order of unlike types."""


def evaluate(expr: Expr, columns: Mapping[str, Json], output: Callable[[StageId], Json]) -> Json:
    """The value of `expr`. `output` gives what an earlier stage of the same plan answered.

    Raises `EvaluationFailed` with a text fit for the program's owner.
    """
    match expr:
        case Const(value=constant):
            return constant
        case Column(name=name, path=path):
            return _follow(columns[name], path, name)
        case Output(stage=stage, path=path):
            return _follow(output(stage), path, stage)
        case Concat(segments=segments):
            return "".join(format_value(evaluate(segment, columns, output)) for segment in segments)
        case Blocks(blocks=blocks, separator=separator):
            return separator.join(format_value(evaluate(block, columns, output)) for block in blocks)
        case Array(items=items):
            return [evaluate(item, columns, output) for item in items]
        case Object(fields=fields):
            return {field.name: evaluate(field.value, columns, output) for field in fields}
        case Compare():
            return _compare(expr, evaluate(expr.left, columns, output), lambda: evaluate(expr.right, columns, output))


def no_output(stage: StageId) -> Json:
    """Stands for `output` where an expression is known to read no stage."""
    raise AssertionError(f"no stage is read here, but {stage!r} was asked for")


def format_value(data: Json) -> str:
    """How a value stands in a prompt: text as it is, everything else as canonical JSON."""
    return data if isinstance(data, str) else canonical_json(data)


def _follow(data: Json, path: Path, origin: str) -> Json:
    for depth, step in enumerate(path):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            missing = ".".join(str(part) for part in path[: depth + 1])
            raise EvaluationFailed(f"{origin!r} has no {missing!r}; it is {_glimpse(data)}") from None
    return data


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(expr: Compare, left: Json, right: Callable[[], Json]) -> bool:
    match expr.operator:
        case "and":
            return bool(left) and bool(right())
        case "or":
            return bool(left) or bool(right())
        case "==":
            return bool(left == right())
        case "!=":
            return bool(left != right())
    other = right()
    try:
        return bool(_ORDER[expr.operator](left, other))
    except TypeError:
        raise EvaluationFailed(f"{_glimpse(left)} {expr.operator} {_glimpse(other)}: these have no order") from None


def _glimpse(data: Json) -> str:
    text = canonical_json(data)
    return text if len(text) <= 80 else text[:77] + "..."
