"""Values that are known only when the program runs, as a workflow's function sees them while it is defined.

They can be read (`.field`, `[0]`), compared, put into f-strings, and handed to stages. Everything Python would need
their real value for is reported with the line and the fix, and the trace goes on to find the next problem.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

from halo.sdk.location import caller
from halo.sdk.lower import lift, lower
from halo.sdk.schemas import Adapter
from halo.sdk.scope import Placed, Scope, current_scope, describe
from halo.sdk.shapes import ANYTHING, TEXT, TRUTH, StepUnknown, shape_of
from halo.sdk.text import concat, has_marks, read_text, write_marker, write_repr
from planner.ir.expressions import Column, Compare, Concat, Const, Expr, Operator, Output

_BRANCH_FIX = (
    "use halo.choose(condition, then=..., otherwise=...) to branch and halo.loop(..., until=...) to repeat;"
    " join conditions with & and |, turn one round with ~"
)


class Symbolic(Placed):
    """No method has a plain name, so that every plain name can be a field of the value."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{describe(self)} has no {name!r}; read such a field with [{name!r}]")
        return _step(self, name)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str | int) and not isinstance(key, bool):
            return _step(self, key)
        if isinstance(key, Symbolic) and _is_poison(key):
            return key
        if isinstance(key, Symbolic):
            return _refuse(self, "is indexed with a value known only when the program runs", "do it in a @halo.tool")
        return _refuse(self, "cannot be sliced here: its length is not known yet", "do it in a @halo.tool")

    def __eq__(self, other: object) -> Any:
        return _compare("==", self, other)

    def __ne__(self, other: object) -> Any:
        return _compare("!=", self, other)

    def __lt__(self, other: object) -> Any:
        return _compare("<", self, other)

    def __le__(self, other: object) -> Any:
        return _compare("<=", self, other)

    def __gt__(self, other: object) -> Any:
        return _compare(">", self, other)

    def __ge__(self, other: object) -> Any:
        return _compare(">=", self, other)

    def __and__(self, other: object) -> Any:
        return _compare("and", self, other)

    def __rand__(self, other: object) -> Any:
        return _compare("and", other, self)

    def __or__(self, other: object) -> Any:
        return _compare("or", self, other)

    def __ror__(self, other: object) -> Any:
        return _compare("or", other, self)

    def __invert__(self) -> Any:
        return _compare("==", truth(self), False)

    def __add__(self, other: object) -> Any:
        return _add(self, other)

    def __radd__(self, other: object) -> Any:
        return _add(other, self)

    def __format__(self, spec: str) -> str:
        if spec:
            name = describe(self)
            _report(
                self, f"`{name}` is formatted with {spec!r}, but is known only when the program runs",
                f'write it plainly: f"{{{name}}}"; or format it in a @halo.tool',
            )  # fmt: skip
        return write_marker(self, caller())

    def __str__(self) -> str:
        return write_marker(self, caller())

    def __repr__(self) -> str:
        return write_repr(self, caller())

    def __bool__(self) -> bool:
        self._halo_scope.trace.stop_repeated_branch()
        _report(
            self, f"`{describe(self)}` is known only when the program runs, so Python cannot branch on it here"
            " (if, while, and, or, not, in, a chained comparison)", _BRANCH_FIX,
        )  # fmt: skip
        return False

    def __iter__(self) -> Iterator[Any]:
        length = self._halo_shape.length
        if length is not None:
            return iter([_step(self, index) for index in range(length)])
        _no_length(self)
        return iter([anything(self._halo_scope)])

    def __len__(self) -> int:
        if self._halo_shape.length is not None:
            return self._halo_shape.length
        _no_length(self)
        return 0

    def __contains__(self, item: object) -> bool:
        _refuse(self, "cannot be searched with `in` here", "do it in a @halo.tool that returns a bool")
        return False

    def __hash__(self) -> int:
        _refuse(self, "cannot be a key of a dict or a member of a set: it is known only when the program runs",
                "keep such values in a list, or under constant keys")  # fmt: skip
        return id(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if _is_poison(self):
            return self
        return _refuse(self, "is called like a function, but stands for a JSON value", "do that in a @halo.tool")

    def __copy__(self) -> "Symbolic":
        return self

    def __deepcopy__(self, memo: object) -> "Symbolic":
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        _refuse(self, f"cannot be changed (.{name} = ...)", "build a new value: {'field': ..., ...}")

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse(self, f"cannot be changed ([{key!r}] = ...)", "build a new value: {'field': ..., ...}")

    def __int__(self) -> int:
        _no_number(self, "int")
        return 0

    def __index__(self) -> int:
        _no_number(self, "a Python index or count")
        return 0

    def __float__(self) -> float:
        _no_number(self, "float")
        return 0.0

    def _halo_arithmetic(self, *others: object) -> Any:
        return _refuse(self, "is known only when the program runs, so Python cannot calculate with it here",
                       "calculate in a @halo.tool")  # fmt: skip

    __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _halo_arithmetic
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _halo_arithmetic
    __matmul__ = __rmatmul__ = __xor__ = __rxor__ = __neg__ = __pos__ = __abs__ = __round__ = _halo_arithmetic


def anything(scope: Scope) -> Symbolic:
    """Stands in where a problem was reported, so that the trace can go on. Says nothing of its own."""
    return Symbolic(Const(None), scope, ANYTHING)


def truth(value: Any) -> Any:
    """A condition whose value is true or false, not merely truthy."""
    if isinstance(value, Placed) and (isinstance(value._halo_expr, Compare) or value._halo_shape.kind == "boolean"):
        return value
    return _compare("and", value, True)


def lifted(value: Any) -> Any:
    """`value` with every string that holds symbolic values made one symbolic text."""
    return lift(value, _lifted_text)


def input_value(scope: Scope, column: Column, adapter: Adapter | None) -> Symbolic:
    return Symbolic(column, scope, shape_of(adapter.schema if adapter else None))


def _lifted_text(text: str) -> Any:
    scope = current_scope()
    if scope is None or not has_marks(text):
        return text
    return Symbolic(read_text(text, scope), scope, TEXT)


def _step(value: Symbolic, key: str | int) -> Any:
    if _is_poison(value):
        return value
    try:
        shape = value._halo_shape.step(key)
    except StepUnknown as unknown:
        _report(value, f"`{describe(value)}`: {unknown.what}", unknown.fix)
        return anything(value._halo_scope)
    expr = value._halo_expr
    assert isinstance(expr, Column | Output), "texts and comparisons have no parts"
    return Symbolic(replace(expr, path=(*expr.path, key)), value._halo_scope, shape)


def _compare(operator: Operator, left: object, right: object) -> Any:
    for side in (left, right):
        if isinstance(side, Symbolic) and _is_poison(side):
            return side
    scope = current_scope()
    if scope is None:
        _outside(left if isinstance(left, Placed) else right)
    return Symbolic(Compare(operator, lower(left, scope), lower(right, scope)), scope, TRUTH)


def _add(left: object, right: object) -> Any:
    for side in (left, right):
        if isinstance(side, Symbolic) and _is_poison(side):
            return side
    scope = current_scope()
    if scope is None:
        _outside(left if isinstance(left, Placed) else right)
    if all(_may_be_text(side) for side in (left, right)) and any(_is_text(side) for side in (left, right)):
        return Symbolic(concat([_segment(left, scope), _segment(right, scope)]), scope, TEXT)
    value = left if isinstance(left, Symbolic) else right
    assert isinstance(value, Symbolic)
    return _refuse(value, "is known only when the program runs, so Python cannot add to it here",
                   'join texts in an f-string; add numbers and lists in a @halo.tool')  # fmt: skip


def _segment(side: object, scope: Scope) -> Expr:
    expr = lower(side, scope)
    return expr if isinstance(expr, Const | Concat) else Concat((expr,))


def _is_text(side: object) -> bool:
    return isinstance(side, str) or (isinstance(side, Placed) and side._halo_shape.kind == "string")


def _may_be_text(side: object) -> bool:
    return _is_text(side) or (isinstance(side, Placed) and side._halo_shape.kind is None)


def _is_poison(value: Symbolic) -> bool:
    return value._halo_expr == Const(None)


def _no_length(value: Symbolic) -> None:
    _report(
        value, f"the length of `{describe(value)}` is known only when the program runs, so Python can neither go"
        " through it here nor count it",
        f"use halo.map(function, over={describe(value)}) for each item, or do it in a @halo.tool",
    )  # fmt: skip


def _no_number(value: Symbolic, wanted: str) -> None:
    _refuse(value, f"is known only when the program runs, so it cannot become {wanted} here",
            "convert it in a @halo.tool, or let the model answer with the right type: output=...")  # fmt: skip


def _refuse(value: Symbolic, what: str, fix: str) -> Symbolic:
    _report(value, f"`{describe(value)}` {what}", fix)
    return anything(value._halo_scope)


def _report(value: Symbolic, what: str, fix: str) -> None:
    if not _is_poison(value):
        value._halo_scope.trace.report(what, fix)


def _outside(value: object) -> NoReturn:
    assert isinstance(value, Symbolic)
    value._halo_scope.trace.report(
        f"`{describe(value)}` is used after the workflow was defined",
        "symbolic values have a meaning only inside the function of their workflow: return what you want to read",
    )
    raise AssertionError("a closed trace raises")
