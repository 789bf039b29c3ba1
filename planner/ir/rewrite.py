"""Copies of expressions and stages with parts replaced. What does not change is shared, not copied."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.ir.expressions import Array, Blocks, Column, Compare, Concat, Const, Expr, Object, Output
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Stage, Tool
from planner.ir.reads import bodies_of

Leaf = Const | Column | Output


def replace_leaves(expr: Expr, change: Callable[[Leaf], Expr]) -> Expr:
    """`expr` with every constant, column and output put through `change`, left to right."""
    match expr:
        case Const() | Column() | Output():
            return change(expr)
        case Array(items=items):
            return Array(tuple(replace_leaves(item, change) for item in items))
        case Object():
            return _in_object(expr, change)
        case Compare(operator=operator, left=left, right=right):
            return Compare(operator, replace_leaves(left, change), replace_leaves(right, change))
        case Concat():
            return _in_concat(expr, change)
        case Blocks(blocks=blocks):
            return replace(expr, blocks=tuple(replace_leaves(block, change) for block in blocks))


def replace_reads(stage: Stage, change: Callable[[Leaf], Expr]) -> Stage:
    """The stage with every leaf replaced that is evaluated in the surrounding plan (what `expressions_of` lists)."""
    match stage:
        case Generate() | Agent():
            messages = (replace(message, content=_in_concat(message.content, change)) for message in stage.messages)
            return replace(stage, messages=tuple(messages))
        case Tool():
            return replace(stage, arguments=_in_object(stage.arguments, change))
        case Choose():
            stage = replace(stage, value=replace_leaves(stage.value, change))
        case Map():
            stage = replace(stage, over=replace_leaves(stage.over, change))
        case Loop():
            stage = replace(stage, initial=replace_leaves(stage.initial, change))
        case Join():
            return replace(stage, value=replace_leaves(stage.value, change))
    return replace_bodies(stage, lambda body: _in_bindings(body, change))


def replace_bodies(stage: Stage, change: Callable[[Body], Body]) -> Stage:
    return with_bodies(stage, [change(body) for body in bodies_of(stage)])


def with_bodies(stage: Stage, bodies: Sequence[Body]) -> Stage:
    """The stage with other bodies, one for each that `bodies_of` lists."""
    match stage:
        case Choose():
            cases = tuple(replace(case, body=body) for case, body in zip(stage.cases, bodies[:-1], strict=True))
            return replace(stage, cases=cases, otherwise=bodies[-1])
        case Map() | Loop():
            return replace(stage, body=bodies[0])
        case _:
            return stage


def _in_concat(text: Concat, change: Callable[[Leaf], Expr]) -> Concat:
    return Concat(tuple(replace_leaves(segment, change) for segment in text.segments))


def _in_object(fields: Object, change: Callable[[Leaf], Expr]) -> Object:
    return Object(tuple(replace(field, value=replace_leaves(field.value, change)) for field in fields.fields))


def _in_bindings(body: Body, change: Callable[[Leaf], Expr]) -> Body:
    bindings = (replace(binding, value=replace_leaves(binding.value, change)) for binding in body.bindings)
    return replace(body, bindings=tuple(bindings))
