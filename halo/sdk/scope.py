"""What is written down while a workflow's function runs on symbolic values: stages, inputs, and everything wrong."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import randbelow
from typing import TYPE_CHECKING, Any, NoReturn, Self

from halo.sdk.errors import WorkflowInvalid
from halo.sdk.location import caller
from halo.sdk.shapes import ANYTHING, Shape
from planner.errors import Problem
from planner.ir.bounds import stage_problems
from planner.ir.check import MAX_BODY_DEPTH, MAX_STAGES
from planner.ir.expressions import Column, Const, Expr, Output
from planner.ir.ids import StageId
from planner.ir.plan import Binding, Body, Fallback, Input, Plan, Stage
from planner.ir.rewrite import Leaf, replace_leaves
from planner.ir.values import Json

if TYPE_CHECKING:
    from halo.sdk.tool import Tool

_current: ContextVar["Scope | None"] = ContextVar("halo_scope", default=None)


def current_scope() -> "Scope | None":
    """Where stages are written down now; None outside of a workflow's definition."""
    return _current.get()


class TraceStopped(BaseException):
    """The trace cannot go on; its problems say why. Not an `Exception`, so that user code does not swallow it."""


class Placed:
    """An expression, the scope that can evaluate it, and what is known of its value."""

    __slots__ = ("_halo_expr", "_halo_scope", "_halo_shape")

    _halo_expr: Expr
    _halo_scope: "Scope"
    _halo_shape: Shape

    def __init__(self, expr: Expr, scope: "Scope", shape: Shape = ANYTHING) -> None:
        object.__setattr__(self, "_halo_expr", expr)
        object.__setattr__(self, "_halo_scope", scope)
        object.__setattr__(self, "_halo_shape", shape)


class Trace:
    """One definition of one workflow. Problems are collected; the first one does not end it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.tools: dict[str, Tool[..., Any]] = {}
        self.slots: list[tuple[Placed, bool, str]] = []
        #: Tells this trace's text slots from another's. Never reaches the plan.
        self.nonce = randbelow(10**9)
        self.closed = False
        self._where: str | None = None
        self._branched_at: set[str] = set()
        self._stages = 0

    def report(self, what: str, fix: str, where: str | None = None) -> None:
        problem = Problem(where or self._where or caller(), what, fix)
        if self.closed:
            raise WorkflowInvalid(self.name, [problem])
        if problem not in self.problems:
            self.problems.append(problem)

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Problems found inside the block stand at `where`: the user's code is not running."""
        before, self._where = self._where, where
        try:
            yield
        finally:
            self._where = before

    def stop(self) -> NoReturn:
        raise TraceStopped

    def stop_repeated_branch(self) -> None:
        """End the trace where Python branches a second time on one line: a `while` on a symbolic value has no end."""
        where = caller()
        if where in self._branched_at:
            self.stop()
        self._branched_at.add(where)

    def check_stage(self, stage: Stage) -> None:
        """Report what planning would refuse of it, while its line is still known."""
        where = caller()
        told = any(problem.where == where for problem in self.problems)
        for problem in () if told else stage_problems(stage, stage.id):
            self.report(f"{problem.where} {problem.what}", problem.fix, where)
        self._stages += 1
        if self._stages > MAX_STAGES:
            self.report(
                f"the workflow makes more than {MAX_STAGES:,} stages",
                "a plan is a template: give rows to workflow.map(rows), and repeat with halo.map or halo.loop",
            )
            self.stop()

    def register(self, tool: "Tool[..., Any]") -> None:
        known = self.tools.setdefault(tool.name, tool)
        if known.original is not tool.original or known.spec != tool.spec:
            self.report(f"two different tools are called {tool.name!r}", "rename one: @halo.tool(name=...)")
        if tool.spec.max_batch > 1 and tool.batch_function is None:
            what = f"`{tool.name}` takes up to {tool.spec.max_batch} calls at once, but has no body for many"
            self.report(what, f"write one under @{tool.name}.batched, or drop max_batch=")


class Scope:
    """The stages of one plan: the workflow's own, or that of a body inside it."""

    def __init__(self, trace: Trace, parent: "Scope | None" = None) -> None:
        self.trace = trace
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self._stages: list[Stage] = []
        self._ids = _Names()
        self._inputs: dict[str, Input] = {}
        self._columns = _Names()
        self._bindings: dict[str, Expr] = {}
        if self.depth > MAX_BODY_DEPTH:
            trace.report(
                f"bodies lie more than {MAX_BODY_DEPTH} deep: a function goes round in a cycle through itself",
                "repeat with halo.loop(function, initial, until=..., max_rounds=...)",
            )
            trace.stop()

    @contextmanager
    def entered(self) -> Iterator[Self]:
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def add_input(self, name: str, schema: Json = None, default: Fallback | None = None) -> Column:
        name = self._columns.new(name)
        self._inputs[name] = Input(name, schema, default)
        return Column(name)

    def new_id(self, base: str) -> StageId:
        return StageId(self._ids.new(base))

    def add(self, stage: Stage) -> Output:
        self.trace.check_stage(stage)
        self._stages.append(stage)
        return Output(stage.id)

    def read(self, value: Placed) -> Expr:
        """The expression of `value` as this scope can write it; values of surrounding scopes become bindings."""
        origin = value._halo_scope
        if origin is self:
            return value._halo_expr
        if origin.trace is not self.trace:
            self.trace.report(
                f"`{describe(value)}` is a value from another workflow ({origin.trace.name!r})",
                "give it to this workflow as an input, or call the other workflow inside this one",
            )
            return Const(None)
        if not origin.surrounds(self):
            self.trace.report(
                f"`{describe(value)}` was made inside a branch or body that has ended, and is used outside of it",
                "return it from that function and use what halo.choose, halo.map or halo.loop gives back",
            )
            return Const(None)
        return self._bind(value._halo_expr, origin)

    def surrounds(self, inner: "Scope") -> bool:
        step: Scope | None = inner
        while step is not None and step is not self:
            step = step.parent
        return step is self

    def plan(self, name: str, result: Expr, version: str = "1") -> Plan:
        return Plan(name, tuple(self._inputs.values()), tuple(self._stages), result, version)

    def body(self, name: str, result: Expr) -> Body:
        return Body(self.plan(name, result), tuple(Binding(name, value) for name, value in self._bindings.items()))

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(self._stages)

    @property
    def bindings(self) -> Mapping[str, Expr]:
        return self._bindings

    def _bind(self, expr: Expr, origin: "Scope") -> Expr:
        assert self.parent is not None
        outer = expr if self.parent is origin else self.parent._bind(expr, origin)
        return replace_leaves(outer, self._bound)

    def _bound(self, leaf: Leaf) -> Expr:
        if isinstance(leaf, Const):
            return leaf
        for name, value in self._bindings.items():
            if value == leaf:
                return Column(name)
        column = self.add_input(re.sub(r"\W+", "_", describe_expr(leaf)).strip("_"))
        self._bindings[column.name] = leaf
        return column


def describe(value: Placed) -> str:
    """How messages call a value: `question`, `draft.sql`, `rows[0]`."""
    return describe_expr(value._halo_expr)


def describe_expr(expr: Expr) -> str:
    match expr:
        case Column(name=origin, path=path) | Output(stage=origin, path=path):
            return origin + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        case _:
            return {"compare": "comparison", "concat": "text"}.get(expr.kind, expr.kind)


class _Names:
    """Hands out each name once."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def new(self, base: str) -> str:
        """`base`, or `base_2`, `base_3`, ... where it is taken."""
        name = base
        while name in self._counts:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base]}"
        self._counts[name] = 1
        return name
