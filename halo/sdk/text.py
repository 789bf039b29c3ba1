"""Symbolic values inside Python strings.

An f-string asks a value for text at once, so a symbolic value gives a marker: private-use characters around the number
of a slot. `read_text` finds the markers again and makes them segments.
"""

import re

from halo.sdk.scope import Placed, Scope, Trace, describe
from planner.ir.expressions import Concat, Const, Expr

_OPEN, _CLOSE, _REPR = "\U0010fa10", "\U0010fa11", "\U0010fa12"
_MARKER = re.compile(f"{_OPEN}([0-9]+)\\.([0-9]+)({_REPR}[^{_CLOSE}]*)?{_CLOSE}")
_ANY_MARK = re.compile(f"[{_OPEN}{_CLOSE}{_REPR}]")


def write_marker(value: Placed, where: str) -> str:
    return _marker(value, as_repr=False, where=where)


def write_repr(value: Placed, where: str) -> str:
    """Readable where it is only printed; told apart, and refused, where it gets into a prompt."""
    return _marker(value, as_repr=True, where=where)


def has_marks(text: str) -> bool:
    return _ANY_MARK.search(text) is not None


def read_text(text: str, scope: Scope) -> Expr:
    """`Const` for plain text; `Concat` of literal text and values where a symbolic value was formatted into it."""
    if not has_marks(text):
        return Const(text)
    segments: list[Expr] = []
    end = 0
    for found in _MARKER.finditer(text):
        _add_literal(segments, text[end : found.start()], scope.trace)
        segments.append(_read_slot(int(found[1]), int(found[2]), scope))
        end = found.end()
    _add_literal(segments, text[end:], scope.trace)
    return concat(segments)


def concat(segments: list[Expr]) -> Concat:
    """Nested texts laid flat, neighbouring literals joined."""
    flat: list[Expr] = []
    for segment in segments:
        inner = segment.segments if isinstance(segment, Concat) else (segment,)
        for piece in inner:
            last = flat[-1] if flat else None
            if _is_literal(piece) and last is not None and _is_literal(last):
                flat[-1] = Const(last.value + piece.value)  # type: ignore[union-attr]
            else:
                flat.append(piece)
    return Concat(tuple(flat))


def _marker(value: Placed, as_repr: bool, where: str) -> str:
    trace = value._halo_scope.trace
    trace.slots.append((value, as_repr, where))
    shown = f"{_REPR}<{describe(value)}>" if as_repr else ""
    return f"{_OPEN}{trace.nonce}.{len(trace.slots) - 1}{shown}{_CLOSE}"


def _read_slot(nonce: int, slot: int, scope: Scope) -> Expr:
    trace = scope.trace
    if nonce != trace.nonce or slot >= len(trace.slots):
        trace.report(
            "the text holds a value from another workflow",
            "give it to this workflow as an input, or call the other workflow inside this one",
        )
        return Const("")
    value, as_repr, where = trace.slots[slot]
    if as_repr:
        trace.report(
            f"`{describe(value)}` is formatted with repr (by !r, by {{...=}}, or inside a list or dict)",
            f'write it plainly: f"{{{describe(value)}}}"; give a list through halo.join([...])',
            where,
        )
    return scope.read(value)


def _add_literal(segments: list[Expr], text: str, trace: Trace) -> None:
    if not text:
        return
    if has_marks(text):
        trace.report(
            "the text holds broken slots: it was cut or changed after a value was formatted into it,"
            " or has private-use characters (U+10FA10 to U+10FA12) of its own",
            "cut and change texts in a @halo.tool function; write such characters as escapes the model can read",
        )
    segments.append(Const(text))


def _is_literal(expr: Expr) -> bool:
    return isinstance(expr, Const) and isinstance(expr.value, str)
