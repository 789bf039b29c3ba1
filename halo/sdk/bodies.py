"""Functions traced into the plans inside a plan: branches, bodies of maps and loops."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halo.sdk.errors import OutsideWorkflow
from halo.sdk.location import caller, of_result
from halo.sdk.lower import lower, shape_of_value
from halo.sdk.scope import Placed, Scope, current_scope
from halo.sdk.shapes import ANYTHING, Shape
from halo.sdk.symbolic import Symbolic
from planner.ir.expressions import Const, Expr
from planner.ir.plan import Body


@dataclass(frozen=True, slots=True)
class Traced:
    """A function's body, and what is known of its result."""

    body: Body
    result: Shape


def require_scope(what: str) -> Scope:
    """Raises `OutsideWorkflow` when no workflow is being defined."""
    scope = current_scope()
    if scope is None:
        raise OutsideWorkflow(f"{caller()}: {what} describes a step of a plan; use it inside a @halo.workflow")
    return scope


def trace_body(role: str, function: Any, given: Mapping[str, Shape], parent: Scope, name: str = "") -> Traced:
    """Run `function` once on symbolic values for `given`. Reports what is no function of that many values.

    The body is called as the function is, a lambda's as `name` or else `role` says.
    """
    scope = Scope(parent.trace, parent)
    columns = {name: scope.add_input(name) for name in given}
    name = named(function, name or role)
    if not accepts(function, len(given)):
        _refuse(role, function, tuple(given), parent)
        return Traced(scope.body(name, Const(None)), ANYTHING)
    with scope.entered():
        value = function(*(Symbolic(columns[name], scope, shape) for name, shape in given.items()))
        with scope.trace.at(of_result(function)):
            result = lower(value, scope)
    return Traced(scope.body(name, result), shape_of_value(value))


def trace_condition(role: str, function: Any, state: Shape, parent: Scope) -> Expr:
    """An expression of the one column `state`. Reports stages and values of the surroundings in it."""
    scope = Scope(parent.trace, parent)
    column = scope.add_input("state")
    if not accepts(function, 1):
        _refuse(role, function, ("state",), parent)
        return Const(True)
    with scope.entered():
        value = function(Symbolic(column, scope, state))
        with scope.trace.at(of_result(function)):
            condition = lower(value, scope)
    if scope.stages:
        parent.trace.report(
            f"{role}= makes a call ({scope.stages[0].id}), but only compares",
            "make the call in the loop's function, put its result into the state, and read it there",
        )
    if scope.bindings:
        parent.trace.report(
            f"{role}= reads {', '.join(scope.bindings)} from outside, but sees only the state",
            "put it into the state: initial={..., 'name': value}",
        )
    return condition


def named(function: Any, otherwise: str) -> str:
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else otherwise


def accepts(function: Any, count: int) -> bool:
    if isinstance(function, Placed) or not callable(function):
        return False
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _refuse(role: str, function: Any, given: tuple[str, ...], scope: Scope) -> None:
    is_function = callable(function) and not isinstance(function, Placed)
    what = f"is a function of other parameters than ({', '.join(given)})" if is_function else "is not a function"
    scope.trace.report(f"{role}= {what}", f"{role}=lambda {', '.join(given)}: ...".replace("lambda :", "lambda:"))
