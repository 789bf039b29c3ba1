"""What nobody reads is not run."""

from collections.abc import Iterator
from dataclasses import replace

from planner.draft import Draft, Rewritten, rewrite_plans
from planner.ir.expressions import Column, Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.needs import stage_tools
from planner.ir.plan import Body, Effect, Plan, Stage, ToolSpec
from planner.ir.reads import bodies_of, expressions_of, stages_read
from planner.ir.rewrite import with_bodies
from planner.ir.sites import bodies_at, given_input
from planner.job import Change, PassReport


def drop_unused_stages(draft: Draft) -> tuple[Draft, PassReport]:
    """Drops stages whose output reaches no result, inside bodies too, and the bindings that only fed them.

    A tool that may have an effect is run though nobody reads it, and so is a body or an agent with such a tool; the
    report says why. A program that would have failed in a dropped stage gets its answer now.

        a = tool lookup pure                 |
        b = generate small <@a>              |
        c = generate small <question>        |  c = generate small <question>
        result @c                            |  result @c
    """
    return rewrite_plans(draft, "drop_unused_stages", _drop)


def _drop(plan: Plan) -> Rewritten:
    changes: list[Change] = []
    return _live_part(plan, "", changes), changes


def _live_part(plan: Plan, prefix: str, changes: list[Change]) -> Plan:
    """The plan without what nobody reads; adds what was done to `changes`."""
    read = set(_outputs(plan.result))
    kept: list[Stage] = []
    for stage in reversed(plan.stages):
        path = prefix + stage.id
        if stage.id not in read:
            effect = _effect(stage)
            changes.append(Change("kept", path, effect) if effect else Change("dropped", path))
            if not effect:
                continue
        trimmed = _trim_bodies(stage, path, changes)
        read.update(stages_read(trimmed))
        kept.append(trimmed)
    return replace(plan, stages=tuple(reversed(kept)))


def _trim_bodies(stage: Stage, path: str, changes: list[Change]) -> Stage:
    given = given_input(stage)
    return with_bodies(stage, [_trim(body, prefix, given, changes) for prefix, body in bodies_at(path, stage)])


def _trim(body: Body, prefix: str, given: str | None, changes: list[Change]) -> Body:
    plan = _live_part(body.plan, prefix, changes)
    read = {given, *_columns(plan)}
    inputs = tuple(asked for asked in plan.inputs if asked.name in read)
    bindings = tuple(binding for binding in body.bindings if binding.name in read)
    return Body(replace(plan, inputs=inputs), bindings)


def _effect(stage: Stage) -> str:
    """Why the stage must run though nobody reads it; empty when nothing says so."""
    tool = next((tool for tool in _tools(stage) if tool.effect is not Effect.PURE), None)
    return "" if tool is None else f"nobody reads it, but tool {tool.name!r} is {tool.effect} and may have an effect"


def _tools(stage: Stage) -> Iterator[ToolSpec]:
    """Every tool that running the stage may call."""
    yield from stage_tools(stage)
    for body in bodies_of(stage):
        for inner in body.plan.stages:
            yield from _tools(inner)


def _outputs(expr: Expr) -> Iterator[StageId]:
    return (leaf.stage for leaf in leaves(expr) if isinstance(leaf, Output))


def _columns(plan: Plan) -> Iterator[str]:
    exprs = [plan.result, *(expr for stage in plan.stages for expr in expressions_of(stage))]
    return (leaf.name for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Column))
