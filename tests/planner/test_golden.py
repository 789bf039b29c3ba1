"""Plans before and after each pass, as text. `HALO_WRITE_GOLDEN=1 pytest ...` writes the files anew; read the diff."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from example_plans import every_kind, text_to_sql

from planner.draft import Draft, begin
from planner.explain import explain
from planner.ir.plan import Plan
from planner.ir.render import render
from planner.ir.values import Json
from planner.job import JobPart, PassReport
from planner.optimize import optimize
from planner.passes import PASSES
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


def test_a_job_explained() -> None:
    plan = text_to_sql()
    parts = [JobPart(plan, Table.from_rows(ROWS, plan.inputs))]
    explanation = explain(parts, optimize(parts))
    check_golden("explain/text_to_sql.txt", explanation.to_text())
    check_golden("explain/text_to_sql.mmd", explanation.to_mermaid())


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
