"""`halo run`: one program, here and now."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from halo.cli.console import print_json, prints_aside, say
from halo.cli.options import (
    AsJson,
    Deadline,
    EngineUrls,
    Fleet,
    InputJson,
    Inputs,
    Models,
    Slo,
    WorkflowName,
    deadline_s,
    engines_for,
    slo_class,
)
from planner.ir.values import Json

if TYPE_CHECKING:
    from halo.deadline import Deadline as Kept
    from halo.sdk.workflow import Workflow

_EXAMPLES = """Examples:

  halo run text2sql -i db=shop -i question="How many orders?" --engine http://localhost:8000

  halo run flows.py:answer --input-json input.json --fleet fleet.toml --json
"""


def register(app: typer.Typer) -> None:
    app.command("run", epilog=_EXAMPLES)(run)


def run(
    workflow: WorkflowName,
    inputs: Inputs = None,
    input_json: InputJson = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    deadline: Deadline = None,
    slo: Slo = None,
    as_json: AsJson = False,
) -> None:
    """Run a workflow on one input and print its result."""
    from halo.batch.intake import RowError
    from halo.event_loop import run_async
    from halo.local import run_in_memory
    from halo.sdk.errors import RunFailed
    from halo.sdk.find import find_workflow

    with prints_aside():
        found = find_workflow(workflow)
        row = found.row(given_inputs(found, inputs or (), input_json))
        kept: list[Kept] = []
        engines, promised = engines_for(found, engine, model, fleet), (deadline_s(deadline), slo_class(slo, "standard"))
        work = run_in_memory(found, [row], engines, deadline_s=promised[0], slo=promised[1], on_deadline=kept.append)
        (outcome,) = run_async(work)
    for one in kept:
        say(one.as_text())
    if isinstance(outcome, RowError):
        raise RunFailed(outcome.code, outcome.message)
    print_result(outcome.result, as_json=as_json)


def given_inputs(workflow: "Workflow[..., Any]", pairs: "list[str] | tuple[()]", file: Path | None) -> dict[str, Json]:
    """The inputs by name: those of the file, and over them those given singly."""
    from halo.batch.cells import json_cell, takes_text

    inputs = _from_file(file) if file is not None else {}
    wants_text = {given.name: takes_text(given) for given in workflow.plan.inputs}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--input")
        inputs[name] = value if wants_text.get(name, True) else json_cell(value)
    return inputs


def print_result(result: Json, *, as_json: bool) -> None:
    if as_json or not isinstance(result, str):
        print_json(result)
    else:
        typer.echo(result.encode("utf-8", "backslashreplace").decode())


def _from_file(file: Path) -> dict[str, Json]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="--input-json") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}", param_hint="--input-json") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{file} holds no object: write {{...}}", param_hint="--input-json")
    return found
