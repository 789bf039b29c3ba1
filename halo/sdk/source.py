"""What a function says, so that a change of it is noticed."""

import ast
import hashlib
import inspect
from collections.abc import Callable
from textwrap import dedent
from typing import Any


def source_digest(*functions: Callable[..., Any]) -> str | None:
    """Equal for functions that say the same: comments and layout do not count, nor do the functions they call.

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
        return ast.unparse(ast.parse(source))
    except SyntaxError:
        return source
