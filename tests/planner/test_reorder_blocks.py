"""Blocks whose order is free: what more rows have in common comes first, and nothing else changes."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from example_plans import LOOKUP, generate, output, text_to_sql, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_strategies import FakeWorld, plans, rows_for

from planner.draft import Draft, begin
from planner.interpret import StageFailed, interpret
from planner.ir.check import check
from planner.ir.codec import decode, encode
from planner.ir.conversation import Reply
from planner.ir.expressions import Blocks, Column, Concat, Const, Expr
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Binding, Body, Generate, Input, Map, Plan, Stage
from planner.ir.reads import bodies_of
from planner.ir.render import render
from planner.ir.rewrite import with_bodies
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.passes.reorder_prompt_blocks import reorder_prompt_blocks
from planner.table import Table

GOLDEN = Path(__file__).parents[1] / "golden" / "planner" / "reorder"
SCHEMA, QUESTION = Column("schema"), Concat((Const("Question: "), Column("question")))


def job(plan: Plan, **columns: list[Json]) -> JobPart:
    return JobPart(plan, Table(columns, len(next(iter(columns.values())))))


def plan_of(*stages: Stage, inputs: tuple[str, ...] = ("schema", "question")) -> Plan:
    return Plan("p", tuple(Input(name) for name in inputs), stages, output(stages[-1].id))


def reordered(*parts: JobPart) -> tuple[Draft, Mapping[str, int]]:
    draft, report = reorder_prompt_blocks(begin(parts))
    return draft, report.counts


def blocks_of(plan: Plan, stage: str) -> tuple[Expr, ...]:
    (asked,) = (each for each in plan.stages if each.id == stage and isinstance(each, Generate))
    (blocks,) = asked.messages[0].content.segments
    assert isinstance(blocks, Blocks)
    return blocks.blocks


def test_before_and_after() -> None:
    plan = plan_of(
        tool("look", LOOKUP, db=Column("schema")),
        generate("ask", Const("Be brief.\n"), Blocks((QUESTION, SCHEMA, Const("Write SQL."))), Const("\nSQL:")),
        generate("again", Blocks((output("ask"), QUESTION, output("look")), "\n---\n")),
    )
    part = job(plan, schema=["shop", "zoo", "shop"], question=["1", "2", "3"])
    draft, counts = reordered(part)

    assert counts == {"prompts_reordered": 2}
    check_golden("before.txt", render(plan))
    check_golden("after.txt", render(draft[0].plan))


def check_golden(name: str, text: str) -> None:
    if os.environ.get("HALO_WRITE_GOLDEN"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_one_row_keeps_the_written_order() -> None:
    plan = plan_of(generate("ask", Blocks((QUESTION, SCHEMA))))
    draft, counts = reordered(job(plan, schema=["shop"], question=["1"]))

    assert draft[0].plan is plan
    assert counts == {"prompts_reordered": 0}


def test_parts_with_one_plan_are_counted_together_for_their_prompts_meet() -> None:
    plan = plan_of(generate("ask", Blocks((QUESTION, SCHEMA))))
    draft, _ = reordered(*(job(plan, schema=["shop"], question=[number]) for number in "123"))

    assert {blocks_of(part.plan, "ask") for part in draft} == {(SCHEMA, QUESTION)}


def test_inside_a_body_what_comes_from_outside_is_counted_and_the_item_is_last() -> None:
    ask = generate("say", Blocks((Column("item"), Column("asked"), Column("of"))))
    each = Plan("each", (Input("item"), Input("asked"), Input("of")), (ask,), output("say"))
    body = Body(each, (Binding("asked", Column("question")), Binding("of", SCHEMA)))
    plan = plan_of(Map(StageId("many"), Column("items"), body), inputs=("schema", "question", "items"))
    draft, _ = reordered(job(plan, schema=["a", "a"], question=["1", "2"], items=[["x"], ["y"]]))

    many = draft[0].plan.stages[0]
    assert isinstance(many, Map)
    assert blocks_of(many.body.plan, "say") == (Column("of"), Column("asked"), Column("item"))


def test_the_rows_of_a_job_are_ordered_by_the_prompts_as_they_are_asked() -> None:
    plan = plan_of(generate("ask", Blocks((QUESTION, SCHEMA))))
    part = job(plan, schema=["x" * 99, "y" * 99, "x" * 99], question=["1", "2", "3"])

    assert list(optimize([part]).parts[0].order) == [0, 2, 1]


@pytest.mark.parametrize("separator", ["\n\n", "", " | "])
def test_blocks_read_as_text_with_the_separator_between(separator: str) -> None:
    plan = plan_of(generate("ask", Const("<"), Blocks((Column("question"), Const(1), SCHEMA), separator), Const(">")))
    world = Asked()
    interpret(plan, {"schema": "s", "question": "q"}, world)

    assert world.prompts == ["<" + separator.join(["q", "1", "s"]) + ">"]
    assert decode(encode(plan)) == plan


def test_a_separator_must_be_text_that_can_be_written() -> None:
    plan = plan_of(generate("ask", Blocks((QUESTION, SCHEMA), "\ud800")))

    assert [problem.where for problem in check(plan)] == ["ask.messages[0]"]


class Asked(FakeWorld):
    """A model that says the same whatever the order of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        self.prompts.append(messages[0]["content"])
        unordered: list[Json] = [{**m, "content": "".join(sorted(m["content"]))} for m in messages]
        return super().generate(path, stage, unordered)


@st.composite
def jobs(draw: st.DrawFn) -> list[JobPart]:
    plan = draw(plans())
    chosen = draw(st.sampled_from([[plan], [plan, marked(plan)], [marked(plan)]]))
    return [JobPart(each, Table.from_rows(draw(rows_for(each)), each.inputs)) for each in chosen]


def marked(plan: Plan) -> Plan:
    """The plan with the order left free in every prompt."""
    return replace(plan, stages=tuple(_marked(stage) for stage in plan.stages))


def _marked(stage: Stage) -> Stage:
    if isinstance(stage, Generate | Agent):
        free = (replace(m, content=Concat((Blocks(m.content.segments, ""),))) for m in stage.messages)
        return replace(stage, messages=tuple(free))
    return with_bodies(stage, [replace(body, plan=marked(body.plan)) for body in bodies_of(stage)])


@settings(max_examples=60)
@given(jobs())
def test_whom_the_order_does_not_matter_answers_as_before(parts: list[JobPart]) -> None:
    for part, planned in zip(parts, reordered(*parts)[0], strict=True):
        assert check(planned.plan) == ()
        for row in range(part.table.rows):
            assert outcome(part.plan, part.table.row(row)) == outcome(planned.plan, part.table.row(row))


def outcome(plan: Plan, row: Mapping[str, Json]) -> Json:
    try:
        return ["answer", interpret(plan, row, Asked())]
    except StageFailed as failure:
        return ["failed", failure.code]


@settings(max_examples=60)
@given(jobs())
def test_blocks_are_moved_and_nothing_else(parts: list[JobPart]) -> None:
    draft, _ = reordered(*parts)
    for part, planned in zip(parts, draft, strict=True):
        assert render(in_one_order(planned.plan)) == render(in_one_order(part.plan))
    again, report = reorder_prompt_blocks(draft)
    assert [part.plan for part in again] == [part.plan for part in draft]
    assert report.counts == {"prompts_reordered": 0}


def in_one_order(plan: Plan) -> Plan:
    return replace(plan, stages=tuple(_in_one_order(stage) for stage in plan.stages))


def _in_one_order(stage: Stage) -> Stage:
    if isinstance(stage, Generate | Agent):
        return replace(stage, messages=tuple(replace(m, content=_sorted(m.content)) for m in stage.messages))
    return with_bodies(stage, [replace(body, plan=in_one_order(body.plan)) for body in bodies_of(stage)])


def _sorted(text: Concat) -> Concat:
    return Concat(
        tuple(
            replace(s, blocks=tuple(sorted(s.blocks, key=repr))) if isinstance(s, Blocks) else s for s in text.segments
        )
    )


def test_a_workflow_that_marks_nothing_is_not_touched() -> None:
    plan = text_to_sql()
    rows = [{"db": "shop", "question": str(number)} for number in range(3)]
    draft, counts = reordered(JobPart(plan, Table.from_rows(rows, plan.inputs)))

    assert draft[0].plan is plan
    assert counts == {"prompts_reordered": 0}
