import json
import re
from collections import Counter

import pytest
from example_plans import LOOKUP, RUN_SQL, SAMPLED, every_kind, generate, output, text_to_sql, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_strategies import FakeWorld, plans, rows_for

from planner.explain import explain
from planner.explanation import Explanation, Span, StageForecast
from planner.interpret import StageFailed, interpret
from planner.ir.expressions import Column, Concat, Const, Expr
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Body, Case, Choose, Generate, Input, Loop, Map, Message, Plan, Stage
from planner.ir.sites import walk
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table


def explained(*parts: JobPart) -> Explanation:
    return explain(parts, optimize(parts))


def part_of(*stages: Stage, result: Expr = Const(None), **columns: list[Json]) -> JobPart:  # noqa: B008
    rows = len(next(iter(columns.values()), []))
    return JobPart(Plan("p", tuple(Input(name) for name in columns), stages, result), Table(columns, rows))


def forecast(explanation: Explanation, path: str) -> StageForecast:
    return next(stage for stage in explanation.stages if stage.path == path)


@st.composite
def jobs(draw: st.DrawFn) -> JobPart:
    plan = draw(plans())
    return JobPart(plan, Table.from_rows(draw(rows_for(plan)), plan.inputs))


@settings(max_examples=50)
@given(jobs())
def test_what_runs_was_foretold(job: JobPart) -> None:
    """A program that fails stops early, and a stage that falls back may not call at all: fewer calls, never more."""
    world, failed = FakeWorld(), False
    for row in range(job.table.rows):
        try:
            interpret(job.plan, job.table.row(row), world)
        except StageFailed:
            failed = True
    counted = Counter(re.sub(r"\[\d+\]", "[*]", re.sub(r"#\d+(/\d+$|$)", "", path)) for path in world.called)
    counted = Counter({re.sub(r"#\d+/", "#*/", path): count for path, count in counted.items()})
    for site, stage in zip(walk(job.plan), explained(job).stages, strict=True):
        if isinstance(site.stage, Generate):
            assert counted[stage.path] <= stage.calls.high
            assert failed or site.stage.fallback or counted[stage.path] >= stage.calls.low


@settings(max_examples=50)
@given(jobs())
def test_merging_and_sharing_only_ever_save(job: JobPart) -> None:
    explanation = explained(job)
    assert [stage.path for stage in explanation.stages] == [site.path for site in walk(job.plan)]
    for stage in explanation.stages:
        assert stage.calls.low <= stage.calls.high
        assert stage.distinct.low <= stage.calls.low or stage.distinct.low <= 1
        assert stage.distinct.high <= stage.calls.high
        assert 0 <= stage.shared_tokens <= stage.merged_tokens.high + 1e-6
    assert json.loads(json.dumps(explanation.to_json()))["plans"] == [{"name": job.plan.name, "rows": job.table.rows}]
    assert explanation.to_mermaid().startswith("flowchart TD\n")


_TEXTS = st.sampled_from(["", "a", "bb", "ccc"])


@settings(max_examples=100)
@given(st.lists(st.tuples(_TEXTS, _TEXTS, st.sampled_from(["small", "large"])), min_size=1, max_size=8))
def test_shared_tokens_are_those_of_the_trie_built_by_hand(prompts: list[tuple[str, str, str]]) -> None:
    """One sampled call a part, so that nothing merges: what is left is what the prefixes have in common."""
    parts = [
        part_of(
            generate("g", Column("x"), Const("|"), Column("y"), sampling=SAMPLED, model=model),
            result=output("g"),
            x=[x],
            y=[y],
        )
        for x, y, model in prompts
    ]
    nodes: dict[tuple[str, ...], int] = {}
    total = 0
    for x, y, model in prompts:
        segments = ("\nuser\n", x, "|", y)
        total += sum(map(len, segments))
        for depth in range(1, 5):
            nodes[(model, *segments[:depth])] = len(segments[depth - 1])
    assert round(explained(*parts).shared_tokens * 4) == total - sum(nodes.values())


def test_calls_are_counted_as_written_and_as_they_will_be_run() -> None:
    explanation = explained(
        part_of(
            tool("schema", LOOKUP, db=Column("db")),
            generate("link", output("schema"), Column("question")),
            generate("link_again", output("schema"), Column("question")),
            generate("unread", Column("question")),
            generate("sample", output("link"), sampling=SAMPLED),
            generate("judge", output("sample")),
            tool("note", RUN_SQL, sql=output("link_again")),
            result=output("judge"),
            db=["shop", "shop", "zoo"],
            question=["a", "a", "b"],
        )
    )
    assert [(s.path, str(s.calls), str(s.distinct), s.note) for s in explanation.stages] == [
        ("schema", "3", "2", ""),
        ("link", "3", "2", ""),
        ("link_again", "3", "0", "merged into link"),
        ("unread", "3", "0", "dropped: nobody reads it"),
        ("sample", "3", "3", ""),
        ("judge", "3", "1..3", ""),
        ("note", "3", "3", "kept: nobody reads it, but tool 'run_sql' is idempotent and may have an effect"),
    ]
    assert (explanation.calls, explanation.distinct_calls) == (Span(15, 15), Span(6, 8))


def test_a_part_pays_only_for_what_no_earlier_part_asked() -> None:
    left = part_of(generate("ask", Column("x")), result=output("ask"), x=["a", "b"])
    right = part_of(generate("say", Column("y")), result=output("say"), y=["b", "c"])
    assert [str(stage.distinct) for stage in explained(left, right).stages] == ["2", "1"]


def test_parts_with_equal_plans_are_told_as_one() -> None:
    first = part_of(generate("ask", Column("x")), result=output("ask"), x=["a", "b"])
    second = part_of(generate("ask", Column("x")), result=output("ask"), x=["b", "c"])
    explanation = explained(first, second)
    assert explanation.rows == (4,)
    assert [(str(stage.calls), str(stage.distinct)) for stage in explanation.stages] == [("4", "3")]


@settings(max_examples=50)
@given(jobs())
def test_rows_that_come_singly_ask_for_what_they_ask_together(job: JobPart) -> None:
    alone = [JobPart(job.plan, Table.from_rows([job.table.row(row)], job.plan.inputs)) for row in range(job.table.rows)]
    if not alone:
        return
    singly, together = explained(*alone), explained(job)
    assert singly.rows == together.rows
    for one, other in zip(singly.stages, together.stages, strict=True):
        assert (one.path, one.calls, one.distinct, one.note) == (other.path, other.calls, other.distinct, other.note)
        assert one.merged_tokens.high == pytest.approx(other.merged_tokens.high)
        assert one.shared_tokens == pytest.approx(other.shared_tokens)


def test_bodies_are_bounded_and_lists_that_are_known_are_counted() -> None:
    each = Body(Plan("each", (Input("item"),), (generate("say", Column("item"), sampling=SAMPLED),), output("say")))
    round_ = Body(
        Plan("round", (Input("state"),), (generate("fix", Column("state"), sampling=SAMPLED),), output("fix"))
    )
    branch = Body(Plan("branch", (), (generate("try", sampling=SAMPLED),), output("try")))
    messages = (Message("user", Concat((Const("hello"),))),)
    explanation = explained(
        part_of(
            Map(StageId("known"), Column("items"), each),
            Map(StageId("unknown"), output("known"), each, max_items=7),
            Loop(StageId("loop"), Const(1), Const(False), round_, 3),
            Choose(StageId("choose"), Column("items"), (Case(1, branch),), branch),
            Agent(StageId("agent"), "m", messages, (RUN_SQL,), 5),
            items=[[1, 2], [3], "no list"],
        )
    )
    assert [str(forecast(explanation, path).calls) for path in ("known[*]/say", "unknown[*]/say", "loop#*/fix")] == [
        "3",
        "0..21",
        "0..9",
    ]
    assert str(forecast(explanation, "choose?0/try").calls) == "0..3"
    assert str(forecast(explanation, "agent").calls) == "3..15"


def test_prompt_tokens_are_characters_by_four_and_outputs_by_max_tokens() -> None:
    ask = generate("ask", Const("x" * 34), sampling=SAMPLED)
    judge = Generate(StageId("judge"), "m", (Message("system", Concat((output("ask"),))),), SAMPLED)
    explanation = explained(part_of(ask, judge, result=output("judge"), x=[1, 2]))
    assert forecast(explanation, "ask").prompt_tokens == Span(20, 20)  # two rows of 34 characters and a role's six
    assert forecast(explanation, "judge").prompt_tokens == Span(404, 404)  # 200 tokens, and eight characters
    assert forecast(explanation, "ask").shared_tokens == 10


def test_the_text_the_picture_and_the_notebook_show_the_same_stages() -> None:
    parts = [JobPart(plan, Table.from_rows([], plan.inputs)) for plan in (text_to_sql(), every_kind())]
    explanation = explained(*parts)
    for shown in (explanation.to_text(), explanation.to_mermaid(), explanation._repr_html_()):
        assert all(stage.path.split("/")[-1] in shown for stage in explanation.stages)


def test_no_name_breaks_out_of_the_picture_or_the_notebook() -> None:
    nasty = '"]<script>\n'
    part = JobPart(
        Plan(nasty, (Input(nasty),), (generate("g", Column(nasty), model=nasty),), output("g")), Table({nasty: []}, 0)
    )
    assert "<script>" not in explained(part)._repr_html_()
    assert '"]<script>' not in explained(part).to_mermaid()


def test_an_empty_job_asks_for_nothing() -> None:
    assert explained().calls == Span(0, 0)
