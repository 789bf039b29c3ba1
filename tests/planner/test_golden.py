"""Plans before and after each pass, as text. `HALO_WRITE_GOLDEN=1 pytest ...` writes the files anew; read the diff."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from example_plans import LOOKUP, SAMPLED, every_kind, generate, output, text_to_sql, tool

from planner.cost.experience import experience_of
from planner.cost.history import Seen, history_of
from planner.draft import Draft, begin
from planner.explain import explain
from planner.ir.expressions import Array, Column, Const
from planner.ir.ids import StageId
from planner.ir.plan import Binding, Body, Input, Map, Plan
from planner.ir.render import render
from planner.ir.values import Json
from planner.job import JobPart, PassReport
from planner.optimize import optimize
from planner.passes import PASSES
from planner.passes.merge_across_rows import merge_across_rows
from planner.passes.merge_identical_stages import merge_identical_stages
from planner.table import Table

GOLDEN = Path(__file__).parents[1] / "golden" / "planner"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("HALO_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("example", [text_to_sql, every_kind])
def test_a_plan_as_text(example: Callable[[], Plan]) -> None:
    check_golden(f"render/{example.__name__}.txt", render(example()))


ROWS: list[dict[str, Json]] = [
    {"db": "shop", "question": "Which items are cheap?"},
    {"db": "zoo", "question": "How old is the oldest animal?"},
    {"db": "shop", "question": "How many items are there?"},
    {"db": "shop", "question": "Which items are cheap?", "style": "plain"},
]


def test_a_job_before_and_after_each_pass() -> None:
    plan = text_to_sql()
    draft = begin([JobPart(plan, Table.from_rows(ROWS, plan.inputs))])
    check_golden("passes/0_as_written.txt", draft_text(draft))
    for number, rewrite in enumerate(PASSES, start=1):
        draft, report = rewrite(draft)
        check_golden(f"passes/{number}_{report.name}.txt", draft_text(draft) + report_text(report))


def test_two_templates_that_do_equal_work_before_and_after_it_was_numbered() -> None:
    """Equal work has one key whichever template, stage or row asks for it; within a body it is done once."""
    draft = begin([JobPart(plan, table) for plan, table in (_reviews(), _digests())])
    check_golden("numbering/before.txt", "\n".join(draft_text((part,)) for part in draft))
    reports = []
    for rewrite in (merge_identical_stages, merge_across_rows):
        draft, report = rewrite(draft)
        reports.append(report_text(report))
    check_golden("numbering/after.txt", "\n".join([*(draft_text((part,)) for part in draft), *reports]))


def _reviews() -> tuple[Plan, Table]:
    """Two equal look-ups, one of them behind the other's twin; and a body that asks the same twice."""
    each = Plan(
        "each",
        (Input("item"), Input("schema")),
        (
            generate("judge", Column("schema"), Column("item")),
            generate("judge_again", Column("schema"), Column("item")),
            generate("doubt", output("judge_again")),
        ),
        Array((output("judge"), output("doubt"))),
    )
    stages = (
        tool("look", LOOKUP, db=Column("db")),
        tool("look_again", LOOKUP, db=Column("db")),
        generate("sum_up", Const("About "), output("look_again")),
        generate("muse", output("sum_up"), sampling=SAMPLED),
        Map(StageId("all"), Column("items"), Body(each, (Binding("schema", output("look_again")),))),
    )
    plan = Plan("reviews", (Input("db"), Input("items")), stages, Array((output("muse"), output("all"))))
    return plan, Table.from_rows([{"db": "shop", "items": ["a"]}, {"db": "zoo", "items": ["a"]}], plan.inputs)


def _digests() -> tuple[Plan, Table]:
    """Another template that reads the same databases under other names, and goes on otherwise."""
    stages = (
        tool("schema_of_left", LOOKUP, db=Column("left")),
        tool("schema_of_right", LOOKUP, db=Column("right")),
        generate("about", Const("About "), output("schema_of_left")),
    )
    result = Array((output("about"), output("schema_of_right")))
    plan = Plan("digests", (Input("left"), Input("right")), stages, result)
    rows: list[dict[str, Json]] = [{"left": "zoo", "right": "shop"}, {"left": "shop", "right": "port"}]
    return plan, Table.from_rows(rows, plan.inputs)


def test_a_job_explained() -> None:
    plan = text_to_sql()
    parts = [JobPart(plan, Table.from_rows(ROWS, plan.inputs))]
    explanation = explain(parts, optimize(parts))
    check_golden("explain/text_to_sql.txt", explanation.to_text())
    check_golden("explain/text_to_sql.mmd", explanation.to_mermaid())


def test_a_job_explained_that_was_run_before() -> None:
    plan = text_to_sql()
    parts = [JobPart(plan, Table.from_rows(ROWS, plan.inputs))]
    seen = [Seen("schema", '"items: name, price"', 3.0), Seen("link", '"items"', 1.0, 120, 20)]
    again = [Seen("revise#1/rewrite", '"SELECT 2"', 1.0, 120, 30), Seen("revise#1/again", '{"ok":true}', 0.5)]
    experience = experience_of(plan, history_of([*seen, *again] * 40), chars_per_token=3.2)
    check_golden("explain/text_to_sql_seen.txt", explain(parts, optimize(parts), experience).to_text())


def draft_text(draft: Draft) -> str:
    (part,) = draft
    groups = (f"group {stage} rows {list(g.group_of_row)} {' '.join(g.keys)}\n" for stage, g in part.groups.items())
    return render(part.plan) + f"order {list(part.order)}\n" + "".join(groups)


def report_text(report: PassReport) -> str:
    changes = (f"{change.what} {change.path} {change.detail}".rstrip() + "\n" for change in report.changes)
    return f"report {dict(report.counts)}\n" + "".join(changes)


def test_a_notebook_shows_the_same_text() -> None:
    shown = every_kind()._repr_html_()
    assert shown.startswith("<pre>plan &quot;every kind&quot;")
