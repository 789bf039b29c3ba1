"""A plan as stable, indented text, for people and for golden tests.

Columns stand bare, outputs of stages after an `@`, literals as JSON. What has its usual value is not shown.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import fields

from planner.ir.expressions import Array, Blocks, Column, Compare, Concat, Const, Expr, Object, Output, Path
from planner.ir.plan import Agent, Body, Choose, Generate, Input, Join, Loop, Map, Plan, Sampling, Stage, Tool, ToolSpec
from planner.ir.values import canonical_json

_INDENT = "  "


def render(plan: Plan) -> str:
    """The whole plan, bodies indented under their stages; ends with a line feed."""
    return "\n".join(_plan_lines(plan)) + "\n"


def render_html(plan: Plan) -> str:
    return f"<pre>{html.escape(render(plan))}</pre>"


def render_expression(expr: Expr) -> str:
    match expr:
        case Const(value=constant):
            return canonical_json(constant)
        case Column(name=name, path=path):
            return _name(name) + _path(path)
        case Output(stage=stage, path=path):
            return f"@{stage}{_path(path)}"
        case Array(items=items):
            return f"[{', '.join(map(render_expression, items))}]"
        case Object(fields=members):
            return "{" + ", ".join(f"{_name(m.name)}: {render_expression(m.value)}" for m in members) + "}"
        case Compare(operator=operator, left=left, right=right):
            return f"({render_expression(left)} {operator} {render_expression(right)})"
        case Concat(segments=segments):
            return f"<{' + '.join(map(render_expression, segments))}>"
        case Blocks(blocks=blocks, separator=separator):
            between = "" if separator == "\n\n" else f", separator={canonical_json(separator)}"
            return f"any_order({', '.join(map(render_expression, blocks))}{between})"


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield f"plan {_name(plan.name)} version {plan.version}"
    for given in plan.inputs:
        yield f"{_INDENT}input {_input(given)}"
    for stage in plan.stages:
        yield from _indented(_stage_lines(stage))
    yield f"{_INDENT}result {render_expression(plan.result)}"


def _stage_lines(stage: Stage) -> Iterator[str]:
    match stage:
        case Generate() | Agent():
            yield f"{stage.id} = {stage.kind} {_name(stage.model)} {_sampling(stage.sampling)}{_options(stage)}"
            for message in stage.messages:
                yield f"{_INDENT}{message.role}: {render_expression(message.content)}"
            for tool in stage.tools if isinstance(stage, Agent) else ():
                yield f"{_INDENT}tool {_tool(tool)}"
        case Tool():
            yield f"{stage.id} = tool {_tool(stage.tool)}{_options(stage)}"
            yield f"{_INDENT}arguments {render_expression(stage.arguments)}"
        case Choose():
            yield f"{stage.id} = choose {render_expression(stage.value)}"
            for case in stage.cases:
                yield from _indented(_body_lines(f"case {canonical_json(case.equals)}", case.body))
            yield from _indented(_body_lines("otherwise", stage.otherwise))
        case Map():
            yield f"{stage.id} = map {render_expression(stage.over)} max_items={stage.max_items}"
            yield from _indented(_body_lines("each", stage.body))
        case Loop():
            yield f"{stage.id} = loop {render_expression(stage.initial)} max_rounds={stage.max_rounds}"
            yield f"{_INDENT}until {render_expression(stage.until)}"
            yield from _indented(_body_lines("round", stage.body))
        case Join():
            yield f"{stage.id} = join {render_expression(stage.value)}"


def _body_lines(title: str, body: Body) -> Iterator[str]:
    yield title
    for binding in body.bindings:
        yield f"{_INDENT}{_name(binding.name)} <- {render_expression(binding.value)}"
    yield from _indented(_plan_lines(body.plan))


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (_INDENT + line for line in lines)


def _input(given: Input) -> str:
    schema = "" if given.schema is None else f": {canonical_json(given.schema)}"
    default = "" if given.default is None else f" = {canonical_json(given.default.value)}"
    return _name(given.name) + schema + default


def _sampling(sampling: Sampling) -> str:
    how = "greedy" if sampling.temperature == 0 else f"temperature={sampling.temperature}"
    shown = _unusual(sampling, leave_out=("temperature", "max_tokens"))
    return f"{how} max_tokens={sampling.max_tokens}{shown}"


def _tool(tool: ToolSpec) -> str:
    return f"{tool.name} {tool.effect}{_unusual(tool, leave_out=('name', 'effect'))}"


def _options(stage: Generate | Agent | Tool) -> str:
    fallback = "" if stage.fallback is None else f" fallback={canonical_json(stage.fallback.value)}"
    shown = ("id", "kind", "model", "messages", "sampling", "tools", "tool", "arguments", "fallback")
    return _unusual(stage, leave_out=shown) + fallback


def _unusual(part: Sampling | ToolSpec | Stage, leave_out: tuple[str, ...]) -> str:
    """` name=value` of each field that is not at its default."""
    values = ((field, getattr(part, field.name)) for field in fields(part) if field.name not in leave_out)
    return "".join(f" {field.name}={canonical_json(value)}" for field, value in values if value != field.default)


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) else canonical_json(name)


def _path(path: Path) -> str:
    return "".join(f"[{canonical_json(step)}]" for step in path)
