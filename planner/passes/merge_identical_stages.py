"""Equal work of one program is done once."""

from dataclasses import replace

from planner.draft import Draft, Rewritten, rewrite_plans
from planner.ir.expressions import Column, Expr, Output
from planner.ir.ids import StageId
from planner.ir.keys import is_fixed, operands, operator_key
from planner.ir.plan import Body, Plan, Stage
from planner.ir.rewrite import Leaf, replace_leaves, replace_reads, with_bodies
from planner.ir.sites import bodies_at
from planner.job import Change, PassReport


def merge_identical_stages(draft: Draft) -> tuple[Draft, PassReport]:
    """Common subexpression elimination within each plan and each body, where answers are fixed.

    Stages are looked at in the order in which they feed each other, each with its inputs already renamed to the stages
    that took over, so one walk reaches the fixpoint. Two samples at temperature 1 stay two calls.

        a = tool lookup pure {db: db}        |  a = tool lookup pure {db: db}
        b = tool lookup pure {db: db}        |
        c = generate small <@a>              |  c = generate small <@a>
        d = generate small <@b>              |
        result [@c, @d]                      |  result [@c, @c]
    """
    return rewrite_plans(draft, "merge_identical_stages", _merge)


def _merge(plan: Plan) -> Rewritten:
    changes: list[Change] = []
    return _merged(plan, "", changes), changes


def _merged(plan: Plan, prefix: str, changes: list[Change]) -> Plan:
    """The plan with each fixed work done once; adds what was done to `changes`."""
    taken_over: dict[StageId, StageId] = {}
    doing: dict[tuple[str, tuple[Column | Output, ...]], StageId] = {}
    stages: list[Stage] = []
    for original in plan.stages:
        stage = _merge_bodies(replace_reads(original, lambda leaf: _redirect(leaf, taken_over)), prefix, changes)
        first = doing.setdefault((operator_key(stage), operands(stage)), stage.id) if is_fixed(stage) else stage.id
        if first == stage.id:
            stages.append(stage)
            continue
        taken_over[stage.id] = first
        changes.append(Change("merged", prefix + stage.id, prefix + first))
    result = replace_leaves(plan.result, lambda leaf: _redirect(leaf, taken_over))
    return replace(plan, stages=tuple(stages), result=result)


def _merge_bodies(stage: Stage, prefix: str, changes: list[Change]) -> Stage:
    bodies = bodies_at(prefix + stage.id, stage)
    return with_bodies(stage, [Body(_merged(body.plan, at, changes), body.bindings) for at, body in bodies])


def _redirect(leaf: Leaf, taken_over: dict[StageId, StageId]) -> Expr:
    if isinstance(leaf, Output) and leaf.stage in taken_over:
        return replace(leaf, stage=taken_over[leaf.stage])
    return leaf
