"""`halo explain`: what would be run, without running it."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from halo.cli.console import prints_aside, warn
from halo.cli.options import EngineUrls, Fleet, InputJson, Inputs, Models, WorkflowName

if TYPE_CHECKING:
    from halo.sdk.workflow import Workflow
    from planner.explanation import Explanation
    from planner.ir.plan import Plan
    from planner.table import Table

_EXAMPLES = """Examples:

  halo explain text2sql --rows questions.jsonl

  halo explain flows.py:answer -i question="How many?" --format json

  halo explain text2sql --rows questions.jsonl --fleet fleet.toml

  halo explain flows.py:answer --format mermaid
"""


class Format(StrEnum):
    TABLE = "table"
    TREE = "tree"
    MERMAID = "mermaid"
    JSON = "json"
    HTML = "html"


_Rows = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The rows: .jsonl, .csv or .parquet.", show_default=False)
]
_Format = Annotated[Format, typer.Option("--format", "-f", help="How to show it.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first rows.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]


def register(app: typer.Typer) -> None:
    app.command("explain", epilog=_EXAMPLES)(explain)


def explain(
    workflow: WorkflowName,
    rows: _Rows = None,
    inputs: Inputs = None,
    input_json: InputJson = None,
    output: _Format = Format.TABLE,
    limit: _Limit = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    as_json: _Json = False,
) -> None:
    """Show what a workflow would do: its stages, how often each runs, what is shared, engine time and money.

    No model is called and no tool is run. Without rows and inputs, the plan itself is shown. Time and money are
    estimates for the engines named; where none is, for one A100 with 80 GB. HALO_PRICES names a file with your prices.
    """
    from halo.sdk.find import find_workflow

    with prints_aside():
        found = find_workflow(workflow)
    output = Format.JSON if as_json else output
    if rows is not None and (inputs or input_json):
        raise typer.BadParameter("give either --rows or --input", param_hint="--rows")
    if rows is None and not inputs and input_json is None:
        typer.echo(_plan_alone(found.plan, output))
    else:
        explanation = _explained(found.plan, _table(found, rows, inputs or [], input_json, limit))
        typer.echo(_shown(_with_times(explanation, engine, model, fleet), output))


def _table(
    workflow: "Workflow[..., Any]", rows: Path | None, inputs: list[str], input_json: Path | None, limit: int | None
) -> "Table":
    from halo.batch.intake import take_in
    from halo.cli.run import given_inputs

    if rows is None:
        row = workflow.row(given_inputs(workflow, inputs, input_json))
        return take_in([row], workflow.plan.inputs)[0]
    table, intake = take_in(rows, workflow.plan.inputs, limit)
    for note in intake.notes:
        warn(note)
    if intake.rejected:
        first = intake.rejected[0]
        warn(f"{len(intake.rejected):,} of {intake.rows:,} rows cannot run; row {first.row}: {first.message}")
    return table


def _explained(plan: "Plan", table: "Table") -> "Explanation":
    from planner.explain import explain
    from planner.job import JobPart
    from planner.optimize import optimize

    part = JobPart(plan, table)
    return explain([part], optimize([part]))


def _with_times(
    explanation: "Explanation", urls: list[str] | None, models: list[str] | None, fleet: Path | None
) -> "Explanation":
    """For the engines that are named, on the command line or in the environment; else for the reference."""
    from halo.batch.engines import ENGINE_URL, FLEET, named_engines
    from halo.prices import priced, read_prices, reference_engine
    from planner.timing import with_times

    prices = read_prices(os.environ)
    if urls or models or fleet or os.environ.get(ENGINE_URL) or os.environ.get(FLEET):
        return with_times(explanation, priced(named_engines(urls or (), models or (), fleet, os.environ), prices))
    return with_times(explanation, [reference_engine(prices)], "the reference, for no engine is named")


def _shown(explanation: "Explanation", output: Format) -> str:
    from planner.ir.render import render

    match output:
        case Format.TREE:
            return "\n".join(render(plan).rstrip() for plan in explanation.plans)
        case Format.JSON:
            return json.dumps(explanation.to_json(), indent=2, ensure_ascii=False)
        case Format.MERMAID:
            return explanation.to_mermaid().rstrip()
        case Format.HTML:
            return explanation._repr_html_()
        case _:
            return explanation.to_text().rstrip()


def _plan_alone(plan: "Plan", output: Format) -> str:
    from planner.ir.codec import encode
    from planner.ir.render import render, render_html
    from planner.mermaid import mermaid

    match output:
        case Format.JSON:
            return json.dumps(json.loads(encode(plan)), indent=2, ensure_ascii=False)
        case Format.MERMAID:
            return mermaid([plan], [{}]).rstrip()
        case Format.HTML:
            return render_html(plan)
        case _:
            return render(plan).rstrip()
