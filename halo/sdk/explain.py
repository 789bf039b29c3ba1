"""What a workflow would do, told before anything runs."""

from collections.abc import Iterable, Mapping

from planner.ir.plan import Plan
from planner.ir.render import render
from planner.ir.values import Json
from planner.job import JobPart
from planner.table import Table

Row = Mapping[str, Json]


def explain(plan: Plan, rows: Iterable[Row] | None = None) -> str:
    """The plan as text; for given rows also how often each stage is called, and what merging and prefixes save.

    Raises `RowsInvalid`.
    """
    if rows is None:
        return render(plan)
    from planner import explain as planner_explain  # here, because planning loads numpy
    from planner.optimize import optimize

    part = JobPart(plan, Table.from_rows(rows, plan.inputs))
    notes = "".join(f"note: {note}\n" for note in part.table.notes)
    return f"{render(plan)}\n{planner_explain.explain([part], optimize([part])).to_text()}{notes}"
