"""Everything wrong with a plan, told at once."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass

from planner.advice import advice
from planner.errors import PlanInvalid, Problem
from planner.ir.bounds import default_problems, json_problems, schema_problems, stage_problems
from planner.ir.codec import MAX_DEPTH
from planner.ir.expressions import Blocks, Column, Const, Expr, Object, Output, children, leaves
from planner.ir.ids import StageId
from planner.ir.needs import stage_tools
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool, ToolSpec
from planner.ir.sites import bodies_at, given_input, walk
from planner.ir.values import Json, canonical_json

MAX_STAGES = 20_000
MAX_BODY_DEPTH = 32
MAX_LITERAL_BYTES = 256 * 1024

_STAGE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def require_valid(plan: Plan) -> None:
    """Raises `PlanInvalid` with all that `check` finds."""
    problems = check(plan)
    if problems:
        raise PlanInvalid(problems)


def check(plan: Plan) -> tuple[Problem, ...]:
    """All problems of `plan`, in the order of its stages; none means that it can run and that `codec` can carry it."""
    if _json_depth(plan) > MAX_DEPTH - 2:  # two levels are the document's own
        return (Problem(plan.name, f"is nested more than {MAX_DEPTH} deep", "nest fewer bodies and expressions"),)
    return (*_plan_problems(plan, ""), *_size_problems(plan), *_tool_name_problems(plan))


def _plan_problems(plan: Plan, prefix: str) -> Iterator[Problem]:
    if not plan.name:
        yield Problem(f"{prefix}name", "is empty", "name the plan")
    yield from _input_problems(plan, prefix)
    yield from _id_problems(plan, prefix)
    scope = _Scope(plan)
    for stage in plan.stages:
        yield from _stage_problems(stage, prefix + stage.id, scope)
        scope.seen.add(stage.id)
    yield from _expression_problems(plan.result, f"{prefix}result", scope)


def _stage_problems(stage: Stage, where: str, scope: "_Scope") -> Iterator[Problem]:
    yield from stage_problems(stage, where)
    for place, expr in _named_expressions(stage):
        yield from _expression_problems(expr, f"{where}.{place}", scope)
    for prefix, body in bodies_at(where, stage):
        yield from _body_problems(body, prefix, given_input(stage), scope)
    if isinstance(stage, Loop):
        yield from _until_problems(stage, where)


class _Scope:
    """What the expressions of a plan may read at the stage being looked at."""

    def __init__(self, plan: Plan) -> None:
        self.columns = {given.name for given in plan.inputs}
        self.stages = {stage.id for stage in plan.stages}
        self.seen: set[StageId] = set()


def _input_problems(plan: Plan, prefix: str) -> Iterator[Problem]:
    for name in _repeated(given.name for given in plan.inputs):
        yield Problem(f"{prefix}inputs.{name}", "is given twice", "keep one")
    for given in plan.inputs:
        where = f"{prefix}inputs.{given.name}"
        if not given.name:
            yield Problem(where, "has no name", "name the input")
        yield from schema_problems(given.schema, f"{where}.schema")
        yield from default_problems(given.default, given.schema, f"{where}.default")


def _id_problems(plan: Plan, prefix: str) -> Iterator[Problem]:
    for name in _repeated(stage.id for stage in plan.stages):
        yield Problem(prefix + name, "names two stages", "give each stage its own id")
    for stage in plan.stages:
        if not _STAGE_ID.fullmatch(stage.id):
            yield Problem(
                prefix + stage.id,
                f"{stage.id!r} is no stage id",
                "use letters, digits, '_', '.' and '-'; no digit first",
            )


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _named_expressions(stage: Stage) -> Iterator[tuple[str, Expr]]:
    """What a stage evaluates in its own plan, except the bindings of its bodies."""
    match stage:
        case Generate() | Agent():
            yield from ((f"messages[{i}]", message.content) for i, message in enumerate(stage.messages))
        case Tool():
            yield "arguments", stage.arguments
        case Choose() | Join():
            yield "value", stage.value
        case Map():
            yield "over", stage.over
        case Loop():
            yield "initial", stage.initial


def _expression_problems(expr: Expr, where: str, scope: _Scope) -> Iterator[Problem]:
    yield from _field_problems(expr, where)
    for leaf in leaves(expr):
        match leaf:
            case Const():
                yield from json_problems(leaf.value, where)
            case Column():
                if leaf.name not in scope.columns:
                    yield Problem(
                        where, f"reads column {leaf.name!r}, which is no input", advice(leaf.name, scope.columns)
                    )
            case Output():
                yield from _output_problems(leaf.stage, where, scope)


def _output_problems(stage: StageId, where: str, scope: _Scope) -> Iterator[Problem]:
    if stage in scope.seen:
        return
    if stage in scope.stages:
        yield Problem(where, f"reads stage {stage!r}, which does not come before it", "put that stage first; no cycles")
    else:
        yield Problem(where, f"reads stage {stage!r}, which is not there", advice(stage, scope.stages))


def _field_problems(expr: Expr, where: str) -> Iterator[Problem]:
    if isinstance(expr, Object):
        for name in _repeated(field.name for field in expr.fields):
            yield Problem(where, f"gives the field {name!r} twice", "keep one")
    if isinstance(expr, Blocks):
        yield from json_problems(expr.separator, where)
    for child in children(expr):
        yield from _field_problems(child, where)


def _body_problems(body: Body, prefix: str, given: str | None, scope: _Scope) -> Iterator[Problem]:
    bound = [binding.name for binding in body.bindings]
    inputs = {asked.name for asked in body.plan.inputs}
    for name in _repeated(bound):
        yield Problem(f"{prefix}bindings.{name}", "is bound twice", "keep one")
    for binding in body.bindings:
        where = f"{prefix}bindings.{binding.name}"
        if binding.name == given:
            yield Problem(where, "is given by the stage itself", "choose another name")
        elif binding.name not in inputs:
            yield Problem(where, "binds what is no input of the body", advice(binding.name, inputs))
        yield from _expression_problems(binding.value, where, scope)
    for name in sorted(inputs - {*bound, given}):
        yield Problem(f"{prefix}inputs.{name}", "is given no value", "bind it")
    yield from _plan_problems(body.plan, prefix)


def _until_problems(stage: Loop, where: str) -> Iterator[Problem]:
    yield from _field_problems(stage.until, f"{where}.until")
    for leaf in leaves(stage.until):
        if isinstance(leaf, Const):
            yield from json_problems(leaf.value, f"{where}.until")
        elif isinstance(leaf, Output) or leaf.name != "state":
            read = f"stage {leaf.stage!r}" if isinstance(leaf, Output) else f"column {leaf.name!r}"
            yield Problem(
                f"{where}.until", f"reads {read}", "read the column 'state' only; carry the rest in the state"
            )


def _size_problems(plan: Plan) -> Iterator[Problem]:
    sites = list(walk(plan))
    if len(sites) > MAX_STAGES:
        yield Problem(plan.name, f"has {len(sites)} stages", f"keep to {MAX_STAGES}; many inputs belong into a table")
    if max((site.depth for site in sites), default=0) > MAX_BODY_DEPTH:
        yield Problem(plan.name, f"nests bodies more than {MAX_BODY_DEPTH} deep", "nest fewer")
    literal_bytes = sum(_literal_bytes(site.stage) for site in sites)
    if literal_bytes > MAX_LITERAL_BYTES:
        yield Problem(
            plan.name,
            f"holds {literal_bytes} bytes of literal text",
            f"keep to {MAX_LITERAL_BYTES}; give long texts as input columns",
        )


def _literal_bytes(stage: Stage) -> int:
    exprs = [expr for _, expr in _named_expressions(stage)]
    exprs += [binding.value for _, body in bodies_at("", stage) for binding in body.bindings]
    exprs += [body.plan.result for _, body in bodies_at("", stage)]
    return sum(_text_bytes(leaf.value) for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Const))


def _text_bytes(data: Json) -> int:
    """The length of a constant as text; what is no JSON has its own problem."""
    try:
        return len((data if isinstance(data, str) else canonical_json(data)).encode(errors="surrogatepass"))
    except (TypeError, ValueError):
        return 0


def _tool_name_problems(plan: Plan) -> Iterator[Problem]:
    """One name is one function where the plan runs, so it must be described in one way."""
    first: dict[str, tuple[ToolSpec, str]] = {}
    for site in walk(plan):
        for tool in stage_tools(site.stage):
            known, where = first.setdefault(tool.name, (tool, site.path))
            if known != tool:
                yield Problem(
                    site.path,
                    f"describes tool {tool.name!r} otherwise than {where} does",
                    "use one description for both",
                )


def _json_depth(plan: Plan) -> int:
    """How deep the brackets of the plan's JSON go. Not recursive: this guards what is."""
    deepest = 0
    pending: list[tuple[object, int]] = [(plan, 1)]
    while pending:
        node, depth = pending.pop()
        members = _members(node)
        if members is None:
            continue
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            return deepest
        pending.extend((member, depth + 1) for member in members)
    return deepest


def _members(node: object) -> list[object] | None:
    if is_dataclass(node):
        return [getattr(node, field.name) for field in fields(node)]
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, tuple | list) else None
