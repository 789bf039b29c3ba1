"""EXPLAIN ANALYZE: given what was recorded of a run, what is told of it beside its prediction."""

import json
from dataclasses import replace
from typing import Any

import pytest
from example_plans import LOOKUP, SAMPLED, generate, output, tool
from hypothesis import given
from hypothesis import strategies as st

from planner.analyse import analyse
from planner.analysis import Analysis, StageActual, against
from planner.explanation import Span
from planner.foretell import foretell
from planner.ir.expressions import Column, Const, Expr
from planner.ir.ids import EngineId, StageId
from planner.ir.plan import Agent, Body, Input, Loop, Map, Message, Plan, Stage
from planner.job import JobPart
from planner.measured import CallSpan, How, Tally
from planner.page import analysis_page, page
from planner.table import Table
from planner.timing import PricedEngine
from tests.planner.test_golden import check_golden

ONE, TWO = EngineId("one"), EngineId("two")
A100 = PricedEngine("A100", {}, 1.8, name="one")


def part_of(*stages: Stage, result: Expr = Const(None), rows: int = 4) -> JobPart:  # noqa: B008
    """Rows ask `a`, `a`, `b`, `c`, and so on."""
    asked = ["a", "a", "b", "c", "d", "e"][:rows]
    return JobPart(Plan("p", (Input("x"),), stages, result), Table({"x": asked}, rows))


def questions() -> JobPart:
    return part_of(
        tool("schema", LOOKUP, db=Column("x")),
        generate("draft", output("schema"), Column("x")),
        generate("draft_again", output("schema"), Column("x")),
        generate("sample", output("draft"), sampling=SAMPLED),
        generate("judge", output("sample"), output("draft_again")),
        generate("unread", Column("x")),
        result=output("judge"),
    )


def analysed(
    part: JobPart, tallies: list[Tally], spans: list[CallSpan] | None = None, rows_ended: int = 4, **given: Any
) -> Analysis:
    told = foretell([part], **{"fleet": [A100], **given})
    return analyse(told.explanation, told.job_plan, tallies, spans or [], rows_ended)


def actual(analysis: Analysis, path: str) -> StageActual:
    return next(stage for stage in analysis.stages if stage.path == path)


RUN = [
    Tally("schema", How.MADE, 2, tools=2, waited_s=0.2, took_s=1.0, first_begun_at=100.0, last_ended_at=101.0),
    Tally("schema", How.SHARED, 2, tools=2),
    Tally("draft", How.MADE, 2, 2, 0, 200, 20, 100, 1.0, 6.0, 101.0, 104.0),
    Tally("draft", How.SHARED, 1, 1, 0, 100, 10, 50),
    Tally("draft", How.RECALLED, 1, 1, 0, 100, 10, 50),
    Tally("sample", How.MADE, 4, 4, 0, 400, 80, 0, 2.0, 8.0, 104.0, 108.0),
    Tally("judge", How.MADE, 3, 3, 0, 300, 30, 0, 3.0, 3.0, 106.0, 110.0),
    Tally("judge", How.SHARED, 1, 1, 0, 100, 10, 0),
]
SPANS = [
    CallSpan("draft", ONE, 101.0, 104.0),
    CallSpan("draft", ONE, 102.0, 103.0),
    CallSpan("sample", TWO, 104.0, 108.0),
]


def test_each_stage_is_told_with_what_it_did_and_where_its_other_answers_came_from() -> None:
    found = analysed(questions(), RUN, SPANS)

    schema, draft, judge = (actual(found, path) for path in ("schema", "draft", "judge"))
    assert (schema.made, schema.planned, schema.met, schema.tools) == (2, 1, 1, 2)  # three works were foretold
    assert (draft.made, draft.planned, draft.recalled, draft.calls) == (2, 1, 1, 2)
    assert (draft.prompt_tokens, draft.cached_tokens, draft.output_tokens) == (200, 100, 20)
    assert (judge.made, judge.planned, judge.met) == (3, 0, 1)  # nobody knew before the run what samples would say
    assert (draft.begun_s, draft.ended_s, draft.waited_s, draft.took_s) == (1.0, 4.0, 1.0, 6.0)
    assert (found.calls, found.prompt_tokens, found.cached_tokens, found.seconds) == (9, 900, 100, 10.0)


def test_calls_that_are_on_an_engine_together_divide_its_time() -> None:
    found = analysed(questions(), RUN, SPANS)

    assert actual(found, "draft").engine_s == pytest.approx(3.0)
    assert actual(found, "sample").engine_s == pytest.approx(4.0)
    assert [(engine.engine, engine.calls, engine.busy_s) for engine in found.engines] == [
        (ONE, 2, pytest.approx(3.0)),
        (TWO, 1, pytest.approx(4.0)),
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(0, 5)), max_size=12))
def test_shares_of_an_engine_add_up_to_the_time_it_was_in_use(calls: list[tuple[str, int, int]]) -> None:
    part = part_of(generate("a", Column("x")), generate("b", output("a")), result=output("b"))
    spans = [CallSpan(path, ONE, float(begin), float(begin + seconds)) for path, begin, seconds in calls]
    in_use = {second for _, begin, seconds in calls for second in range(begin, begin + seconds)}

    found = analysed(part, [], spans)

    assert found.engine_seconds == pytest.approx(len(in_use))
    assert sum(engine.busy_s for engine in found.engines) == pytest.approx(len(in_use))


def test_what_was_made_and_what_each_pass_saved_is_all_that_was_written() -> None:
    found = analysed(questions(), RUN, SPANS)

    saved = {saving.by: (saving.calls, saving.tools, saving.prompt_tokens) for saving in found.savings}
    assert saved == {
        "drop unused stages": (4, 0, 7.0),
        "merge within the plan": (4, 0, 400.0),
        "merge across rows": (1, 1, 100.0),
        "equal work met at run time": (1, 1, 100.0),
        "result cache": (1, 0, 100.0),
    }
    calls = found.calls + sum(saving.calls for saving in found.savings)
    assert Span(calls, calls) == found.prediction.calls


def test_what_bodies_and_agents_did_is_told_at_their_place_in_the_plan() -> None:
    each = Body(Plan("each", (Input("item"),), (generate("say", Column("item"), sampling=SAMPLED),), output("say")))
    round_ = Body(Plan("round", (Input("state"),), (tool("look", LOOKUP, db=Column("state")),), output("look")))
    opening = (Message("user", Const("go")),)
    part = part_of(
        Map(StageId("map"), Column("x"), each),
        Loop(StageId("loop"), Const(1), Const(False), round_, 3),
        Agent(StageId("agent"), "m", opening, (LOOKUP,), 5),
    )
    found = analysed(
        part,
        [
            Tally("map[0]/say", How.MADE, 3, 3, 0, 30, 3),
            Tally("map[1]/say", How.MADE, 1, 1, 0, 10, 1),
            Tally("loop#0/look", How.MADE, 4, tools=4),
            Tally("loop#2/look", How.MADE, 2, tools=2),
            Tally("agent#0", How.MADE, 4, 4, 0, 40, 4),
            Tally("agent#1", How.MADE, 2, 2, 0, 50, 2),
            Tally("agent#0/0", How.MADE, 2, tools=2),
        ],
    )
    assert actual(found, "map[*]/say").calls == 4
    assert actual(found, "loop#*/look").tools == 6
    assert (actual(found, "agent").calls, actual(found, "agent").tools) == (6, 2)


def test_a_prediction_is_met_anywhere_in_its_range() -> None:
    assert against(Span(2, 4), 3) == "as predicted"
    assert against(Span(2, 4), 8) == "2 times that"
    assert against(Span(2, 4), 1) == "0.5 times that"
    assert against(Span(0, 0), 5) == "not predicted"


def test_a_job_analysed() -> None:
    found = analysed(questions(), RUN, SPANS, fleet=())
    found = replace(found, prediction=replace(found.prediction, prefixes=()))
    check_golden("analysis/questions.txt", found.to_text())
    check_golden("analysis/questions.tree.txt", found.to_tree())
    check_golden("analysis/questions.mmd", found.to_mermaid())
    assert json.loads(json.dumps(found.to_json()))["savings"][2]["by"] == "merge across rows"


def test_a_job_of_which_nothing_ran_yet_is_told_too() -> None:
    found = analysed(questions(), [], rows_ended=0)
    assert "0 of 4 ended" in found.to_text()
    assert found.calls == 0


def test_the_page_holds_every_stage_and_loads_nothing() -> None:
    found = analysed(questions(), RUN, SPANS)
    for shown in (page(found.prediction), analysis_page(found)):
        assert all(f"<title>{stage.path}</title>" in shown for stage in found.stages)
        assert "http" not in shown.replace("http-equiv", "")
        assert "<script" not in shown
    assert "was 900, 100 cached" in analysis_page(found)


def test_no_name_breaks_out_of_the_page() -> None:
    nasty = '"]<script>\n'
    part = JobPart(
        Plan(nasty, (Input(nasty),), (generate("g", Column(nasty), model=nasty),), output("g")), Table({nasty: []}, 0)
    )
    assert "<script>" not in page(foretell([part]).explanation)
