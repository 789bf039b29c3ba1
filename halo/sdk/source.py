"""What a function says, so that a change of it is noticed."""

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

#: What of a syntax tree says nothing, or stands in the trees of some versions of Python only.
_SILENT = frozenset({"ctx", "kind", "type_comment"})


def source_digest(*functions: Callable[..., Any]) -> str | None:
    """Equal for functions that say the same: comments and layout do not count, nor do the functions they call, nor
    which version of Python asks.

    None where a source cannot be had: of what was typed at a prompt, or is not written in Python.
    """
    try:
        texts = [_normal(dedent(inspect.getsource(function))) for function in functions]
    except (OSError, TypeError):
        return None
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _normal(source: str) -> str:
    """A lambda's source is the lines it stands on, which need not be a statement."""
    try:
        return _said(ast.parse(source))
    except SyntaxError:
        return source


def _said(part: object) -> str:
    """A tree as text. `ast.dump` and `ast.unparse` write it differently from version to version; so does `repr` letters
    that are new in Unicode."""
    match part:
        case ast.Constant():
            return ascii(part.value)
        case ast.JoinedStr():
            return f"JoinedStr({', '.join(map(_said, _joined(part.values)))})"
        case ast.AST():
            fields = ((name, field) for name, field in ast.iter_fields(part) if name not in _SILENT)
            told = ", ".join(f"{name}={_said(field)}" for name, field in fields if field is not None and field != [])
            return f"{type(part).__name__}({told})"
        case list():
            return f"[{', '.join(map(_said, part))}]"
        case _:
            return ascii(part)


def _joined(pieces: list[ast.expr]) -> Iterator[ast.expr]:
    """Text between the values of an f-string in one piece: where it is cut is another thing in each version."""
    text = ""
    for piece in pieces:
        if isinstance(piece, ast.Constant):
            text += str(piece.value)
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield piece
    if text:
        yield ast.Constant(text)
