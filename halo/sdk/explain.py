"""What a workflow would do, told before anything runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from planner.ir.ids import StageId
from planner.ir.plan import Agent, Generate, Loop, Map, Plan, Stage, Tool
from planner.ir.render import render
from planner.ir.sites import bodies_at
from planner.ir.values import Json
from planner.job import Change, JobPart, PlannedPart
from planner.table import Table

Row = Mapping[str, Json]


def explain(plan: Plan, rows: Iterable[Row] | None = None) -> str:
    """The plan as text; for given rows also how often each step is called, at most, and what planning saves.

    Raises `RowsInvalid`.
    """
    if rows is None:
        return render(plan)
    from planner.optimize import optimize  # here, because the passes load numpy

    table = Table.from_rows(rows, plan.inputs)
    job = optimize([JobPart(plan, table)])
    changes = [change for report in job.report for change in report.changes]
    return "\n".join([render(plan).rstrip(), *_rows_lines(plan, table, job.parts[0], changes)]) + "\n"


@dataclass(frozen=True, slots=True)
class _Calls:
    path: str
    kind: str
    count: int


def _rows_lines(plan: Plan, table: Table, planned: PlannedPart, changes: list[Change]) -> Iterator[str]:
    written = list(_calls(plan, "", table.rows, {}))
    distinct = {stage: len(grouping.keys) for stage, grouping in planned.groups.items()}
    left = list(_calls(planned.plan, "", table.rows, distinct))
    yield f"{table.rows:,} rows"
    yield from (f"note: {note}" for note in table.notes)
    yield f"calls as written, at most: {sum(call.count for call in written):,}"
    yield f"calls after planning, at most: {sum(call.count for call in left):,}"
    yield from (f"  {call.path}  {call.count:,} {call.kind}" for call in left)
    yield from (f"  {change.path}  {change.what} {change.detail}".rstrip() for change in changes)


def _calls(plan: Plan, prefix: str, runs: int, distinct: Mapping[StageId, int]) -> Iterator[_Calls]:
    """Each model call and tool, with how often it runs at most when `plan` runs `runs` times.

    `distinct` says of stages of the plan itself how many different pieces of work they do.
    """
    for stage in plan.stages:
        path = prefix + stage.id
        times = distinct.get(stage.id, runs)
        if isinstance(stage, Generate | Tool):
            yield _Calls(path, stage.kind, times)
        if isinstance(stage, Agent):
            yield _Calls(path, "agent turns", times * stage.max_turns)
        for body_prefix, body in bodies_at(path, stage):
            yield from _calls(body.plan, body_prefix, times * _times(stage), {})


def _times(stage: Stage) -> int:
    match stage:
        case Map():
            return stage.max_items
        case Loop():
            return stage.max_rounds
        case _:
            return 1
