"""Blocks of prompts whose order is free stand so that more calls begin alike."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from planner.draft import Draft, DraftPart, parts_of_plans
from planner.ir.expressions import Blocks, Concat, Expr
from planner.ir.plan import Agent, Generate, Message, Plan, Stage
from planner.ir.reads import bodies_of
from planner.ir.rewrite import with_bodies
from planner.ir.sites import walk
from planner.job import PassReport
from planner.passes.merge_across_rows import merge_across_rows
from planner.prompts import UNKNOWN, Scope, bind, resolve
from planner.segments import Segments

#: How many different texts a block has over all rows of a job; what only a running program knows counts as endless.
_Texts = Callable[[Expr, Scope | None], float]


def reorder_prompt_blocks(draft: Draft) -> tuple[Draft, PassReport]:
    """Puts the blocks of each `Blocks` in a prompt in the order of how many different texts they have, fewest first.

    Ties keep the written order, and so do jobs of one row. Prompts without `Blocks` stay as they are: the user says
    where order is free. It is the one pass that changes what a model is asked: the order chosen is part of the plan as
    it is run, so all rows of a job are asked in it, and a serial run of that plan gives the same answers; a program run
    alone or inline is asked in the written order. It goes before works are named, so that names fit what is asked.

        halo.blocks(question, schema)  |  any_order(schema, question), for a thousand questions on ten schemas
    """
    parts = list(draft)
    named = merge_across_rows(draft)[0] if any(_has_blocks(plan) for plan, _ in parts_of_plans(draft)) else draft
    reordered = 0
    for plan, shared_by in parts_of_plans(draft):
        if not _has_blocks(plan):
            continue
        rewritten = _plan(plan, _counting([named[index] for index in shared_by]), None)
        reordered += sum(
            before.stage != after.stage and isinstance(before.stage, Generate | Agent)
            for before, after in zip(walk(plan), walk(rewritten), strict=True)
        )
        if rewritten != plan:
            for index in shared_by:
                parts[index] = replace(parts[index], plan=rewritten)
    return tuple(parts), PassReport("reorder_prompt_blocks", {"prompts_reordered": reordered})


def _has_blocks(plan: Plan) -> bool:
    messages = (m for site in walk(plan) if isinstance(site.stage, Generate | Agent) for m in site.stage.messages)
    return any(_marked(message.content) for message in messages)


def _marked(text: Expr) -> bool:
    return isinstance(text, Blocks) or (isinstance(text, Concat) and any(map(_marked, text.segments)))


def _counting(parts: Sequence[DraftPart]) -> _Texts:
    """Counts over the rows of all parts that share a plan: their prompts meet in the same engines."""
    segments = [Segments(part.plan, part.table, part.groups) for part in parts]

    def texts(block: Expr, scope: Scope | None) -> float:
        resolved = resolve(block, scope)
        if resolved is UNKNOWN or not all(of_part.known(resolved) for of_part in segments):
            return inf
        return len({key for of_part in segments for key in of_part.keys(resolved)})

    return texts


def _plan(plan: Plan, texts: _Texts, scope: Scope | None) -> Plan:
    return replace(plan, stages=tuple(_stage(stage, texts, scope) for stage in plan.stages))


def _stage(stage: Stage, texts: _Texts, scope: Scope | None) -> Stage:
    if isinstance(stage, Generate | Agent):
        messages = (Message(m.role, _concat(m.content, texts, scope)) for m in stage.messages)
        return replace(stage, messages=tuple(messages))
    bodies = (replace(body, plan=_plan(body.plan, texts, bind(body, scope))) for body in bodies_of(stage))
    return with_bodies(stage, list(bodies))


def _concat(text: Concat, texts: _Texts, scope: Scope | None) -> Concat:
    return Concat(tuple(_text(segment, texts, scope) for segment in text.segments))


def _text(text: Expr, texts: _Texts, scope: Scope | None) -> Expr:
    match text:
        case Concat():
            return _concat(text, texts, scope)
        case Blocks(blocks=blocks):
            inside = (_text(block, texts, scope) for block in blocks)
            return replace(text, blocks=tuple(sorted(inside, key=lambda block: texts(block, scope))))
        case _:
            return text
