"""Every prompt of a plan as segments that can be told apart row by row, before anything has run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planner.ir.evaluate import EvaluationFailed, evaluate, format_value, no_output
from planner.ir.expressions import Blocks, Column, Concat, Const, Expr, Output, leaves
from planner.ir.plan import Agent, Body, Generate, Message, Plan
from planner.ir.rewrite import replace_leaves
from planner.ir.sites import bodies_at
from planner.ir.values import Json

#: What only a running program knows: an item, a state, the output of a stage inside the same body.
UNKNOWN = None

Segment = Expr | None
Scope = Mapping[str, Segment]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one call, or the first of an agent's, with its parts read from the plan's own columns and stages.

    Literal text that stands together is one segment; a turn of the chat begins with the name of its role.
    """

    path: str
    stage: Generate | Agent
    segments: tuple[Segment, ...]


def prompts_of(plan: Plan) -> tuple[Prompt, ...]:
    """In the order of `planner.ir.sites.walk`."""
    return tuple(_prompts(plan, "", None))


def role_marker(message: Message) -> Const:
    """Stands for what a chat template writes between turns: it tells roles apart and is about as long."""
    return Const(f"\n{message.role}\n")


def _prompts(plan: Plan, prefix: str, scope: Scope | None) -> Iterator[Prompt]:
    for stage in plan.stages:
        path = prefix + stage.id
        if isinstance(stage, Generate | Agent):
            yield Prompt(path, stage, tuple(_join_literals(_segments(stage, scope))))
        for at, body in bodies_at(path, stage):
            yield from _prompts(body.plan, at, bind(body, scope))


def _segments(stage: Generate | Agent, scope: Scope | None) -> Iterator[Segment]:
    for message in stage.messages:
        yield role_marker(message)
        for part in _flatten(message.content):
            yield from _flatten(resolve(part, scope))


def _flatten(segment: Segment) -> Iterator[Segment]:
    match segment:
        case Concat(segments=segments):
            inner = segments
        case Blocks(blocks=blocks, separator=separator):
            inner = tuple(part for block in blocks for part in (Const(separator), block))[1:]
        case _:
            yield segment
            return
    for part in inner:
        yield from _flatten(part)


def _join_literals(segments: Iterator[Segment]) -> Iterator[Segment]:
    literal = ""
    for segment in segments:
        if isinstance(segment, Const):
            literal += format_value(segment.value)
            continue
        if literal:
            yield Const(literal)
        literal = ""
        yield segment
    if literal:
        yield Const(literal)


def bind(body: Body, scope: Scope | None) -> Scope:
    """What the body's columns are, seen from the outermost plan; what its stage gives it is not among them."""
    return {binding.name: resolve(binding.value, scope) for binding in body.bindings}


def resolve(expr: Segment, scope: Scope | None) -> Segment:
    """The expression with the columns of a body replaced by what they are bound to. The outermost plan has no scope."""
    if scope is None or expr is UNKNOWN:
        return expr
    bound = {leaf: _resolve_leaf(leaf, scope) for leaf in leaves(expr) if not isinstance(leaf, Const)}
    known = {leaf: segment for leaf, segment in bound.items() if segment is not UNKNOWN}
    if len(known) < len(bound):
        return UNKNOWN
    return replace_leaves(expr, lambda leaf: leaf if isinstance(leaf, Const) else known[leaf])


def _resolve_leaf(leaf: Column | Output, scope: Scope) -> Segment:
    if isinstance(leaf, Output):
        return UNKNOWN
    match scope.get(leaf.name, UNKNOWN):
        case Column(name=name, path=path):
            return Column(name, path + leaf.path)
        case Output(stage=stage, path=path):
            return Output(stage, path + leaf.path)
        case Const(value=constant):
            return _found_in(constant, leaf)
        case bound:
            return UNKNOWN if leaf.path else bound


def _found_in(constant: Json, leaf: Column) -> Segment:
    try:
        return Const(evaluate(leaf, {leaf.name: constant}, no_output))
    except EvaluationFailed:
        return UNKNOWN
