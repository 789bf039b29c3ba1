"""What passes promise: the same answers, equal keys for equal work, an order that loses nobody."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from example_plans import LOOKUP, RUN_SQL, SAMPLED, generate, join, output, text_to_sql, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_strategies import FakeWorld, plans, rows_for

from planner.draft import Draft, Pass, begin
from planner.interpret import StageFailed, interpret
from planner.ir.check import check
from planner.ir.evaluate import EvaluationFailed, evaluate
from planner.ir.expressions import Array, Column, Const, Expr, Output
from planner.ir.ids import ContentKey, StageId
from planner.ir.keys import is_fixed, operands, operator_key
from planner.ir.plan import Binding, Body, Input, Map, Plan, Stage
from planner.ir.reads import stages_read
from planner.ir.sites import walk
from planner.ir.values import Json, canonical_json
from planner.job import Change, JobPart
from planner.optimize import optimize
from planner.passes import PASSES
from planner.passes.drop_unused_stages import drop_unused_stages
from planner.passes.group_rows_by_prefix import group_rows_by_prefix
from planner.passes.merge_across_rows import merge_across_rows
from planner.passes.merge_identical_stages import merge_identical_stages
from planner.table import Table


@st.composite
def jobs(draw: st.DrawFn) -> list[JobPart]:
    """One or two parts, now and then with one plan."""
    first = draw(plans())
    second = draw(st.sampled_from([None, first])) or draw(plans())
    chosen = draw(st.sampled_from([[first], [first, second]]))
    return [JobPart(plan, Table.from_rows(draw(rows_for(plan)), plan.inputs)) for plan in chosen]


def outcome(plan: Plan, row: Mapping[str, Json], world: FakeWorld) -> Json:
    try:
        return ["answer", interpret(plan, row, world)]
    except StageFailed as failure:
        return ["failed", failure.code, failure.message]


@settings(max_examples=100)
@given(jobs())
def test_every_program_that_had_an_answer_has_it_still(parts: list[JobPart]) -> None:
    for part, planned in zip(parts, optimize(parts).parts, strict=True):
        assert check(planned.plan) == ()
        for index in range(part.table.rows):
            before = outcome(part.plan, part.table.row(index), FakeWorld())
            after = outcome(planned.plan, part.table.row(index), FakeWorld())
            assert before == after or before[0] == "failed"


@settings(max_examples=50)
@given(jobs())
def test_merging_changes_no_failure_and_no_call_that_is_not_fixed(parts: list[JobPart]) -> None:
    draft, _ = merge_identical_stages(begin(parts))
    for part, merged in zip(parts, draft, strict=True):
        assert loose(merged.plan) == loose(part.plan)
        for index in range(part.table.rows):
            row = part.table.row(index)
            assert outcome(part.plan, row, FakeWorld()) == outcome(merged.plan, row, FakeWorld())


def loose(plan: Plan) -> list[str]:
    return [site.path for site in walk(plan) if not is_fixed(site.stage)]


@settings(max_examples=50)
@given(jobs())
def test_a_pass_has_nothing_left_to_do_after_it_was_run(parts: list[JobPart]) -> None:
    draft = begin(parts)
    for rewrite in PASSES:
        draft, _ = rewrite(draft)
        assert comparable(rewrite(draft)[0]) == comparable(draft)


def comparable(draft: Draft) -> Json:
    return [(part.plan, list(part.order), part.groups) for part in draft]


@settings(max_examples=50)
@given(jobs())
def test_equal_keys_mean_equal_outcomes(parts: list[JobPart]) -> None:
    """Each stage with a grouping is asked for alone: what one key names comes out one way, in all rows and parts."""
    outcomes: dict[ContentKey, Json] = {}
    draft, _ = merge_across_rows(begin(parts))
    for part in draft:
        for stage, grouping in part.groups.items():
            alone = only(part.plan, stage)
            for row in range(part.table.rows):
                came_out = outcome(alone, part.table.row(row), FakeWorld())[:2]  # a failure's text names the stage
                assert outcomes.setdefault(grouping.keys[grouping.group_of_row[row]], came_out) == came_out


def only(plan: Plan, wanted: StageId) -> Plan:
    """The plan that computes one stage and what it reads."""
    needed = {wanted}
    for stage in reversed(plan.stages):
        if stage.id in needed:
            needed.update(stages_read(stage))
    return replace(plan, stages=tuple(s for s in plan.stages if s.id in needed), result=Output(wanted))


@settings(max_examples=50)
@given(jobs())
def test_keys_are_equal_exactly_where_operator_and_inputs_are(parts: list[JobPart]) -> None:
    key_of: dict[str, ContentKey] = {}
    draft, report = merge_across_rows(begin(parts))
    for part in draft:
        for row in range(part.table.rows):
            works = written_out(part.plan, part.table.row(row))
            assert works.keys() == part.groups.keys()
            for stage, work in works.items():
                grouping = part.groups[stage]
                key = grouping.keys[grouping.group_of_row[row]]
                assert key_of.setdefault(work, key) == key
    assert len(set(key_of.values())) == len(key_of) == report.counts["works_distinct"]


def written_out(plan: Plan, row: Mapping[str, Json]) -> dict[StageId, str]:
    """Each fixed work in full, inputs and all: what its key stands for."""
    works: dict[StageId, str] = {}
    for stage in plan.stages:
        reads = [written_read(read, row, works) for read in operands(stage)]
        if is_fixed(stage) and None not in reads:
            works[stage.id] = canonical_json([operator_key(stage), reads])
    return works


def written_read(read: Column | Output, row: Mapping[str, Json], works: Mapping[StageId, str]) -> Json:
    if isinstance(read, Output):
        return [works[read.stage], read.path] if read.stage in works else None
    try:
        return ["found", canonical_json(evaluate(read, row, works.__getitem__))]
    except EvaluationFailed:
        return ["not found", canonical_json(row[read.name]), read.path]


@settings(max_examples=50)
@given(jobs())
def test_groupings_count_every_row_once(parts: list[JobPart]) -> None:
    for part in merge_across_rows(begin(parts))[0]:
        for grouping in part.groups.values():
            members = [list(grouping.group_of_row).count(group) for group in range(len(grouping.keys))]
            assert members == list(grouping.sizes)
            assert sum(members) == part.table.rows
            assert list(dict.fromkeys(grouping.group_of_row)) == list(range(len(grouping.keys)))


@settings(max_examples=50)
@given(jobs())
def test_the_order_loses_no_row_and_takes_none_twice(parts: list[JobPart]) -> None:
    for part in optimize(parts).parts:
        rows = len(part.order)
        assert sorted(part.order) == list(range(rows))


# What each pass does, on plans small enough to read.


def run(rewrite: Pass, *parts: JobPart) -> tuple[Draft, tuple[Change, ...]]:
    draft, report = rewrite(begin(parts))
    return draft, report.changes


def part_of(*stages: Stage, result: Expr, **columns: list[Json]) -> JobPart:
    rows = len(next(iter(columns.values()), []))
    return JobPart(Plan("p", tuple(Input(name) for name in columns), stages, result), Table(columns, rows))


def test_a_tool_with_an_effect_is_run_though_nobody_reads_it() -> None:
    draft, changes = run(
        drop_unused_stages,
        part_of(
            generate("why", Column("x")),
            tool("note", RUN_SQL, sql=output("why")),
            tool("look", LOOKUP, db=Column("x")),
            result=Const(1),
            x=[],
        ),
    )
    assert [stage.id for stage in draft[0].plan.stages] == ["why", "note"]
    assert changes == (
        Change("kept", "note", "nobody reads it, but tool 'run_sql' is idempotent and may have an effect", (0,)),
        Change("dropped", "look", "", (0,)),
    )


def test_bodies_lose_what_nobody_reads_and_the_bindings_that_fed_it() -> None:
    each = Plan(
        "each",
        (Input("item"), Input("hint"), Input("db")),
        (generate("unread", Column("hint")), generate("say", Column("item"), Column("db"))),
        output("say"),
    )
    bindings = (Binding("hint", output("think")), Binding("db", Column("x")))
    draft, changes = run(
        drop_unused_stages,
        part_of(
            generate("think", Column("x")),
            Map(StageId("many"), Column("x"), Body(each, bindings)),
            result=output("many"),
            x=[],
        ),
    )
    (many,) = draft[0].plan.stages
    assert isinstance(many, Map)
    assert [given.name for given in many.body.plan.inputs] == ["item", "db"]
    assert [binding.name for binding in many.body.bindings] == ["db"]
    assert [(change.what, change.path) for change in changes] == [("dropped", "think"), ("dropped", "many[*]/unread")]


def test_merging_follows_inputs_to_the_fixpoint() -> None:
    draft, changes = run(
        merge_identical_stages,
        part_of(
            tool("a", LOOKUP, db=Column("x")),
            tool("b", LOOKUP, db=Column("x")),
            generate("c", output("a")),
            generate("d", output("b")),
            join("e", output("c")),
            join("f", output("d")),
            result=Array((output("e"), output("f"))),
            x=[],
        ),
    )
    assert [stage.id for stage in draft[0].plan.stages] == ["a", "c", "e"]
    assert draft[0].plan.result == Array((output("e"), output("e")))
    assert [(change.path, change.detail) for change in changes] == [("b", "a"), ("d", "c"), ("f", "e")]


def test_two_samples_stay_two_calls_and_so_do_two_effects() -> None:
    part = part_of(
        generate("a", Column("x"), sampling=SAMPLED),
        generate("b", Column("x"), sampling=SAMPLED),
        tool("c", RUN_SQL, sql=Column("x")),
        tool("d", RUN_SQL, sql=Column("x")),
        result=Const(1),
        x=[],
    )
    draft, changes = run(merge_identical_stages, part)
    assert draft[0].plan is part.plan
    assert changes == ()


def test_equal_rows_of_two_templates_share_a_key() -> None:
    left = part_of(generate("ask", Const("Q: "), Column("question")), result=Const(1), question=["a", "b", "a"])
    right = part_of(generate("say", Const("Q: "), Column("text")), result=Const(1), text=["b"])
    draft, _ = run(merge_across_rows, left, right)
    asked, said = draft[0].groups[StageId("ask")], draft[1].groups[StageId("say")]
    assert list(asked.group_of_row) == [0, 1, 0]
    assert list(asked.sizes) == [2, 1]
    assert said.keys == asked.keys[1:]


def test_what_reads_an_answer_that_is_not_fixed_has_no_key_before_the_run() -> None:
    part = part_of(
        generate("draft", Column("x"), sampling=SAMPLED),
        generate("check", output("draft")),
        generate("free", Const("x")),
        result=Const(1),
        x=["a", "a"],
    )
    draft, _ = run(merge_across_rows, part)
    assert list(draft[0].groups) == ["free"]


def order_of(*parts: JobPart) -> list[list[int]]:
    return [list(part.order) for part in optimize(parts, (merge_across_rows, group_rows_by_prefix)).parts]


def test_rows_that_begin_alike_stand_together_level_by_level() -> None:
    part = part_of(
        generate("g", Const("Schema "), Column("db"), Column("style"), Column("question")),
        result=Const(1),
        db=["shop", "zoo", "shop", "zoo", "shop"],
        style=["s", "s", "t", "s", "s"],
        question=["1", "2", "3", "4", "5"],
    )
    assert order_of(part) == [[0, 4, 2, 1, 3]]


def test_the_stage_with_most_to_share_decides() -> None:
    part = part_of(
        generate("light", Column("style"), Column("question")),
        generate("heavy", Column("schema"), Column("question")),
        result=Const(1),
        style=["s", "t", "s", "t"],
        schema=["x" * 99, "y" * 99, "y" * 99, "x" * 99],
        question=["1", "2", "3", "4"],
    )
    assert order_of(part) == [[0, 3, 1, 2]]


def test_prompts_are_grouped_by_fixed_outputs_and_inside_bodies_too() -> None:
    each = Plan(
        "each", (Input("item"), Input("schema")), (generate("say", Column("schema"), Column("item")),), output("say")
    )
    bound = (Binding("schema", output("look")),)
    part = part_of(
        tool("look", LOOKUP, db=Column("db")),
        Map(StageId("many"), Column("items"), Body(each, bound)),
        result=output("many"),
        db=["shop", "zoo", "shop"],
        items=[[1], [2], [3]],
    )
    assert order_of(part) == [[0, 2, 1]]


@pytest.mark.parametrize("question", [["a", "b", "c"], ["a", "a", "a"], []])
def test_rows_keep_their_order_where_no_order_shares_more(question: list[str]) -> None:
    part = part_of(generate("g", Column("question")), result=Const(1), question=question)
    assert order_of(part) == [list(range(len(question)))]


def test_rows_without_a_prompt_keep_their_order() -> None:
    assert order_of(part_of(join("j", Column("x")), result=Const(1), x=["b", "a", "b"])) == [[0, 1, 2]]


def empty_job() -> JobPart:
    plan = text_to_sql()
    return JobPart(plan, Table.from_rows([], plan.inputs))


def test_parts_with_equal_plans_are_looked_at_once() -> None:
    left, right = begin([empty_job(), empty_job()])
    assert left.plan is right.plan
