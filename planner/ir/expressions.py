"""How a stage names the values it reads: columns of the row, outputs of earlier stages, and what is built of them."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field as Tagged

from planner.ir.ids import StageId
from planner.ir.values import Json, value

Path = tuple[str | int, ...]
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "and", "or"]


@value
class Const:
    """A JSON value known when the plan was made. Treat `value` as frozen."""

    value: Json
    kind: Literal["const"] = "const"


@value
class Column:
    """An input of the plan, or what `path` finds inside it."""

    name: str
    path: Path = ()
    kind: Literal["column"] = "column"


@value
class Output:
    """The output of an earlier stage of the same plan, or what `path` finds inside it."""

    stage: StageId
    path: Path = ()
    kind: Literal["output"] = "output"


@value
class Array:
    items: "tuple[Expr, ...]"
    kind: Literal["array"] = "array"


@value
class Field:
    name: str
    value: "Expr"


@value
class Object:
    fields: tuple[Field, ...]
    kind: Literal["object"] = "object"


@value
class Compare:
    """`left operator right`; a boolean. `and`/`or` take the truth of both sides."""

    operator: Operator
    left: "Expr"
    right: "Expr"
    kind: Literal["compare"] = "compare"


@value
class Concat:
    """Text made of segments. A `Const` string segment is literal; everything else is formatted into its place."""

    segments: "tuple[Expr, ...]"
    kind: Literal["concat"] = "concat"


@value
class Blocks:
    """Text made of blocks whose order is free, with `separator` between them; each keeps what stands inside it.

    Written order holds wherever a program runs as it was written. In a prompt, planning a job may put first what more
    rows have in common (`planner.passes.reorder_prompt_blocks`).
    """

    blocks: "tuple[Expr, ...]"
    separator: str = "\n\n"
    kind: Literal["blocks"] = "blocks"


Expr = Annotated[Const | Column | Output | Array | Object | Compare | Concat | Blocks, Tagged(discriminator="kind")]


def children(expr: Expr) -> "tuple[Expr, ...]":
    match expr:
        case Array(items=items):
            return items
        case Object(fields=fields):
            return tuple(field.value for field in fields)
        case Compare(left=left, right=right):
            return (left, right)
        case Concat(segments=segments):
            return segments
        case Blocks(blocks=blocks):
            return blocks
        case _:
            return ()


def leaves(expr: Expr) -> Iterator[Const | Column | Output]:
    """Every constant, column and output the expression reads, left to right."""
    if isinstance(expr, Const | Column | Output):
        yield expr
        return
    for child in children(expr):
        yield from leaves(child)
