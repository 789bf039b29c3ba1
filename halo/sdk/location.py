"""Where in the user's code something is: `file:line`, as editors and terminals make it a link."""

import ast
import functools
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any

_LIBRARY = sysconfig.get_path("stdlib")
_OURS = ("halo.sdk", "planner", "pydantic")


def caller() -> str:
    """The line of the user's code that is running now: the innermost frame outside of Halo and the standard library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "<unknown>:0"


def caller_locals() -> dict[str, Any]:
    """Local names of the user's running functions, the innermost first: type hints may name local types."""
    found: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame):
            found = dict(frame.f_locals) | found
        frame = frame.f_back
    return found


def of_error(error: BaseException, otherwise: str) -> str:
    """The innermost line of the user's code that an exception came through."""
    found = otherwise
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if _is_users(step.tb_frame):
            found = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return found


def of_function(function: Callable[..., Any]) -> str:
    """The line of its `def`, not of its first decorator."""
    node = _syntax(function)
    return _place(function, 1 if node is None else node.lineno)


def of_parameter(function: Callable[..., Any], name: str) -> str:
    node = _syntax(function)
    if node is not None:
        arguments = node.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        for argument in every:
            if argument is not None and argument.arg == name:
                return _place(function, argument.lineno)
    return of_function(function)


def of_result(function: Callable[..., Any]) -> str:
    """The line of its one `return`, or of its `def` where there are several or none can be seen."""
    node = _syntax(function)
    returns = [] if node is None else [step for step in _own_steps(node) if isinstance(step, ast.Return)]
    return _place(function, returns[0].lineno) if len(returns) == 1 else of_function(function)


def _own_steps(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function, except in the functions inside it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _own_steps(child)


def _is_users(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    if any(module == ours or module.startswith(f"{ours}.") for ours in _OURS):
        return False
    file = frame.f_code.co_filename
    in_library = file.startswith(_LIBRARY) and "site-packages" not in file
    return not in_library and not file.startswith("<frozen")


def _place(function: Callable[..., Any], line: int) -> str:
    """`line` counts from 1 at the function's first decorator. What is not written in Python stands where it is used."""
    unwrapped: Any = inspect.unwrap(function)
    while isinstance(unwrapped, functools.partial):
        unwrapped = inspect.unwrap(unwrapped.func)
    code: CodeType | None = getattr(unwrapped, "__code__", None)
    return caller() if code is None else f"{code.co_filename}:{code.co_firstlineno + line - 1}"


def _syntax(function: Callable[..., Any]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function's syntax with lines counted from its first decorator; None where the source is not at hand."""
    try:
        source = textwrap.dedent("".join(inspect.getsourcelines(function)[0]))
        node = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
