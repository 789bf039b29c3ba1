"""`halo explain`: what would be run, without running it; and after a run, what was predicted against what was."""

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from halo.cli.console import prints_aside, say, warn
from halo.cli.options import EngineUrls, Fleet, InputJson, Inputs, Models, Tenant, complete_workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.engines.port import EngineSpec
    from executor.tokenization.counting import Counted
    from halo.priced_fleet import Fleet as PredictedFor
    from halo.sdk.workflow import Workflow
    from planner.analysis import Analysis
    from planner.cost.experience import Experience
    from planner.explanation import Explanation
    from planner.ir.plan import Plan
    from planner.job import JobPart, JobPlan
    from planner.table import Table

_EXAMPLES = """Examples:

  halo explain text2sql --rows questions.jsonl

  halo explain flows.py:answer -i question="How many?" --format json

  halo explain text2sql --rows questions.jsonl --fleet fleet.toml --format html > plan.html

  halo explain text2sql --rows questions.jsonl --fleet fleet.toml --simulate --database sqlite:///halo.db

  halo explain text2sql --rows questions.jsonl --fleet fleet.toml --tenant ann

  halo explain --analyze out/

  halo explain --job run_0198c --database postgresql://halo@db-host/halo
"""


class Format(StrEnum):
    TABLE = "table"
    TREE = "tree"
    MERMAID = "mermaid"
    JSON = "json"
    HTML = "html"


_Workflow = Annotated[
    str | None,
    typer.Argument(
        metavar="[WORKFLOW]",
        help="module:name, path/to/file.py:name, or the name of an installed workflow.",
        autocompletion=complete_workflow,
        show_default=False,
    ),
]
_Rows = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The rows: .jsonl, .csv or .parquet.", show_default=False)
]
_Format = Annotated[Format, typer.Option("--format", "-f", help="How to show it; html is one page by itself.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first rows.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
_Analyze = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="After a run: the output folder of halo batch run.", show_default=False),
]
_Job = Annotated[
    str | None, typer.Option(metavar="ID", help="After a run: a run or job of the service.", show_default=False)
]
_Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where --job is kept, sqlite:///halo.db unless told otherwise; before a run, where earlier jobs are:"
        " forecasts go by what they took.",
        show_default=False,
    ),
]
_Simulate = Annotated[
    bool, typer.Option("--simulate", help="Also play the run in virtual time, and tell how long it would last.")
]


def register(app: typer.Typer) -> None:
    app.command("explain", epilog=_EXAMPLES)(explain)


def explain(
    workflow: _Workflow = None,
    rows: _Rows = None,
    inputs: Inputs = None,
    input_json: InputJson = None,
    output: _Format = Format.TABLE,
    limit: _Limit = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    analyze: _Analyze = None,
    job: _Job = None,
    database: _Database = None,
    simulate: _Simulate = False,
    tenant: Tenant = None,
    as_json: _Json = False,
) -> None:
    """Show what a workflow would do: its stages, how often each runs, what is shared, engine time and money.

    No model is called and no tool is run. Without rows and inputs, the plan itself is shown. Time and money are
    estimates for the engines named; where none is, for one A100 with 80 GB. HALO_PRICES names a file with your prices.

    With --analyze or --job, a job that was run is shown instead: what was predicted of each stage, what became of it,
    and what each pass of the planner saved.
    """
    output = Format.JSON if as_json else output
    if analyze is not None or job is not None:
        if workflow is not None or (analyze is not None and job is not None):
            raise typer.BadParameter("name a workflow, or --analyze DIR, or --job ID", param_hint="--analyze")
        typer.echo(_shown_analysis(_analyzed(analyze, job, database, _fleet(engine, model, fleet, tenant)), output))
        return
    if workflow is None:
        raise typer.BadParameter("name a workflow, or a job that was run with --analyze DIR", param_hint="WORKFLOW")
    predicted_for, specs = _fleet(engine, model, fleet, tenant), _specs(engine, model, fleet)
    typer.echo(_foretold(workflow, rows, inputs, input_json, limit, predicted_for, specs, database, tenant, output))
    if simulate:
        _simulate(workflow, rows, inputs, input_json, limit, specs, database, tenant, output)


def _simulate(
    workflow: str,
    rows: Path | None,
    inputs: list[str] | None,
    input_json: Path | None,
    limit: int | None,
    specs: "Sequence[EngineSpec]",
    database: str | None,
    tenant: str | None,
    output: Format,
) -> None:
    """Told on stderr, so that what is shown on stdout stays what it was; as JSON where that is asked for."""
    from halo.event_loop import run_async
    from halo.foresight import foresee
    from halo.sdk.find import find_workflow

    with prints_aside():
        found = find_workflow(workflow)
    if rows is None and not inputs and input_json is None:
        raise typer.BadParameter("name rows or inputs: without them there is no run", param_hint="--simulate")
    table = _table(found, rows, inputs or [], input_json, limit)
    told = run_async(foresee(found, table, specs, database, _whose(tenant)))
    for line in (json.dumps(told.as_json()),) if output is Format.JSON else told.lines():
        say(line)


def _foretold(
    workflow: str,
    rows: Path | None,
    inputs: list[str] | None,
    input_json: Path | None,
    limit: int | None,
    fleet: "PredictedFor",
    specs: "Sequence[EngineSpec]",
    database: str | None,
    tenant: str | None,
    output: Format,
) -> str:
    from halo.priced_fleet import open_to, unforeseeable
    from halo.sdk.find import find_workflow
    from halo.tokens import foretell_counted
    from planner.ir.needs import models_of
    from planner.job import JobPart
    from planner.optimize import optimize

    with prints_aside():
        found = find_workflow(workflow)
    if rows is not None and (inputs or input_json):
        raise typer.BadParameter("give either --rows or --input", param_hint="--rows")
    if rows is None and not inputs and input_json is None:
        return _plan_alone(found.plan, output)
    part = JobPart(found.plan, _table(found, rows, inputs or [], input_json, limit))
    unserved = unforeseeable(tuple(models_of(found.plan)), specs, _whose(tenant))
    for why in unserved:
        warn(why)
    job_plan, usable = optimize([part]), open_to(specs, _whose(tenant))
    counted = _counted(part, job_plan, usable) if usable else None
    experience = experience_in(part.plan, found.name, database, tenant)
    told = foretell_counted(part, job_plan, fleet, counted, experience)
    return _shown(replace(told.explanation, notes=(*unserved, *told.explanation.notes)), output)


def experience_in(plan: "Plan", workflow: str, database: str | None, tenant: str | None = None) -> "Experience":
    """What the database has seen of the tenant's workflow; nothing without one."""
    from halo.event_loop import run_async
    from halo.foresight import history_in
    from planner.cost.experience import NO_EXPERIENCE, experience_of

    if database is None:
        return NO_EXPERIENCE
    history, _ = run_async(history_in(database, workflow, _whose(tenant)))
    return experience_of(plan, history)


def _counted(part: "JobPart", job_plan: "JobPlan", specs: "Sequence[EngineSpec]") -> "Counted":
    """In the tokens of the engines that are named, where they tell."""
    from halo.event_loop import run_async
    from halo.tokens import count_prompts

    counted = run_async(count_prompts([part], job_plan, specs))
    if counted.problem:
        warn(f"{counted.problem}\nTokens are estimated by characters.")
    return counted


def _analyzed(folder: Path | None, job: str | None, database: str | None, fleet: "PredictedFor") -> "Analysis":
    from halo.analysis import analyze_folder, analyze_stored
    from halo.event_loop import run_async

    if folder is not None:
        return run_async(analyze_folder(folder, fleet))
    from halo.settings import read_settings

    return run_async(analyze_stored(database or read_settings().database_url, job or "", fleet))


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


def _whose(tenant: str | None) -> str:
    from executor.store.jobs import DEFAULT_TENANT

    return tenant or DEFAULT_TENANT


def _fleet(urls: list[str] | None, models: list[str] | None, fleet: Path | None, tenant: str | None) -> "PredictedFor":
    """The engines that are named, on the command line or in the environment; else the reference."""
    from halo.priced_fleet import named_or_reference

    return named_or_reference(urls or (), models or (), fleet, os.environ, _whose(tenant))


def _specs(urls: list[str] | None, models: list[str] | None, fleet: Path | None) -> "Sequence[EngineSpec]":
    from halo.batch.engines import any_named, named_engines

    if not any_named(urls or (), models or (), fleet, os.environ):
        return ()
    return named_engines(urls or (), models or (), fleet, os.environ)


def _shown(explanation: "Explanation", output: Format) -> str:
    match output:
        case Format.TREE:
            return explanation.to_tree().rstrip()
        case Format.JSON:
            return json.dumps(explanation.to_json(), indent=2, ensure_ascii=False)
        case Format.MERMAID:
            return explanation.to_mermaid().rstrip()
        case Format.HTML:
            from planner.page import page

            return page(explanation)
        case _:
            return explanation.to_text().rstrip()


def _shown_analysis(analysis: "Analysis", output: Format) -> str:
    match output:
        case Format.TREE:
            return analysis.to_tree().rstrip()
        case Format.JSON:
            return json.dumps(analysis.to_json(), indent=2, ensure_ascii=False)
        case Format.MERMAID:
            return analysis.to_mermaid().rstrip()
        case Format.HTML:
            from planner.page import analysis_page

            return analysis_page(analysis)
        case _:
            return analysis.to_text().rstrip()


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
