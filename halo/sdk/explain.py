"""What a workflow would do, told before anything runs."""

from collections.abc import Iterable, Iterator, Mapping

from planner.ir.plan import Agent, Generate, Loop, Map, Plan, Stage, Tool
from planner.ir.render import render
from planner.ir.sites import bodies_at
from planner.ir.values import Json
from planner.table import Table

Row = Mapping[str, Json]


def explain(plan: Plan, rows: Iterable[Row] | None = None) -> str:
    """The plan as text; for given rows also how often each step is called, at most. Raises `RowsInvalid`."""
    if rows is None:
        return render(plan)
    table = Table.from_rows(rows, plan.inputs)
    lines = [f"{table.rows} rows", *(f"note: {note}" for note in table.notes), "calls, at most:"]
    lines += [f"  {path}  {calls:,}{kind}" for path, calls, kind in _calls(plan, "", table.rows)]
    return render(plan) + "\n".join(lines) + "\n"


def _calls(plan: Plan, prefix: str, runs: int) -> Iterator[tuple[str, int, str]]:
    """Each LLM call and tool with how often it runs at most when `plan` runs `runs` times."""
    for stage in plan.stages:
        path = prefix + stage.id
        if isinstance(stage, Generate | Tool):
            yield path, runs, f" {stage.kind}"
        if isinstance(stage, Agent):
            yield path, runs * stage.max_turns, " generate"
        for body_prefix, body in bodies_at(path, stage):
            yield from _calls(body.plan, body_prefix, runs * _times(stage))


def _times(stage: Stage) -> int:
    match stage:
        case Map():
            return stage.max_items
        case Loop():
            return stage.max_rounds
        case _:
            return 1
