"""`halo batch`: a workflow over a file of rows."""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, prints_aside, say, warn
from halo.cli.failures import INTERRUPTED
from halo.cli.options import (
    AsJson,
    Deadline,
    EngineUrls,
    Fleet,
    Models,
    Rule,
    Slo,
    WorkflowName,
    deadline_s,
    engines_for,
    rule_name,
    slo_class,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from halo.batch.run import Batch, Running
    from halo.batch.summary import Summary

_EXAMPLES = """Examples:

  halo batch run text2sql --rows questions.jsonl --out out/ --engine http://localhost:8000

  halo batch run flows.py:answer --rows rows.parquet --out out/ --fleet fleet.toml --resume
"""
_RowsFile = Annotated[
    Path, typer.Option(metavar="FILE", help="The rows: .jsonl, .csv or .parquet.", show_default=False)
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Where results, errors and a summary go.", show_default=False)]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with the batch in DIR, if there is one.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first rows.", show_default=False)]
_MaxActive = Annotated[int | None, typer.Option(min=1, help="Rows in progress at once; 512 unless told otherwise.")]
_Journal = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write every event of the scheduler there.", show_default=False)
]


_Explain = Annotated[
    bool, typer.Option("--explain", help="Also tell what was predicted and what became of it; it goes to analyze.json.")
]


_Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        envvar="HALO_RESULT_CACHE",
        help="Take what earlier batches gave for the same greedy or seeded calls of the same model, and for the same"
        " calls of pure tools with a version; keep what this one gives.",
    ),
]


_Decisions = Annotated[
    int, typer.Option(min=0, help="Of how many rows `halo why` can tell where calls went; 0 keeps nothing.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Run a workflow over a file of rows.")
    group.command("run", epilog=_EXAMPLES)(run)
    app.add_typer(group, name="batch")


def run(
    workflow: WorkflowName,
    rows: _RowsFile,
    out: _Out,
    resume: _Resume = False,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    limit: _Limit = None,
    max_active: _MaxActive = None,
    journal: _Journal = None,
    explain: _Explain = False,
    cache: _Cache = True,
    deadline: Deadline = None,
    slo: Slo = None,
    rule: Rule = None,
    decisions: _Decisions = 256,
    as_json: AsJson = False,
) -> None:
    """Run a workflow on every row of a file.

    DIR gets results.jsonl, errors.jsonl and summary.json, in the order of the rows. Each finished step is committed:
    after Ctrl-C or a crash, the same command with --resume goes on, and calls nothing again that was finished. It
    refuses rows, a workflow or tools that have changed since.

    A row that cannot be read or fails goes to errors.jsonl and the others run; the exit code is then 1.
    """
    from executor.core.limits import Limits
    from halo.batch.cache_file import users_cache
    from halo.batch.errors import BatchStopped
    from halo.batch.run import Batch
    from halo.event_loop import run_process
    from halo.sdk.find import find_workflow

    by = rule_name(rule)
    limits = Limits() if max_active is None else Limits(active_programs=max_active)
    results = users_cache(os.environ) if cache else None
    try:
        with prints_aside():
            found = find_workflow(workflow)
            engines = engines_for(found, engine, model, fleet)
            wanted = Batch(found, rows, out, engines, resume, limit, limits, journal, explain, results)
            urgency = slo_class(slo, "batch")
            timed = replace(wanted, deadline_s=deadline_s(deadline), slo=urgency)
            batch = replace(timed, decisions=decisions, rule=by or wanted.rule)
            summary = run_process(_run(batch))
    except BatchStopped as stopped:
        say(f"{stopped}; to go on:\n  {resume_command(sys.argv)}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(summary.as_json())
    else:
        _print(summary, out)
        if summary.analysis is not None:
            typer.echo(f"\n{summary.analysis.to_text().rstrip()}")
    raise typer.Exit(summary.exit_code)


def resume_command(arguments: list[str]) -> str:
    """The command line that was given, made to go on."""
    program = "halo" if Path(arguments[0]).name in {"halo", "__main__.py"} else arguments[0]
    rest = [argument for argument in arguments[1:] if argument != "--resume"]
    return shlex.join([program, *rest, "--resume"])


async def _run(batch: "Batch") -> "Summary":
    from halo.batch.run import run_batch
    from halo.cli.interrupt import stop_on_interrupt
    from halo.cli.progress import show_progress

    async def watch(running: "Running") -> None:
        for note in running.intake.notes:
            warn(note)
        say(_beginning(running))
        await show_progress(running)

    with stop_on_interrupt(lambda: say("stopping: what runs is given up, what is finished is kept")) as stop:
        return await run_batch(batch, stop=stop, watch=watch)


def _beginning(running: "Running") -> str:
    intake, engines = running.intake, len(running.runtime.engines)
    rejected = f", {len(intake.rejected):,} of them cannot run" if intake.rejected else ""
    return f"{running.job}: {intake.rows:,} rows{rejected}; engines: {engines}"


def _print(summary: "Summary", out: Path) -> None:
    used = summary.usage
    lines = [
        f"{summary.rows:,} rows: {summary.succeeded:,} succeeded, {summary.failed:,} failed",
        *(f"  {count:,} {code}" for code, count in summary.failures.items()),
        f"calls: {used['calls']:,} made, {used['saved_calls']:,} saved;"
        f" tools: {used['tools']:,} run, {used['saved_tools']:,} saved",
        *_from_cache(used),
        f"tokens: {used['prompt_tokens']:,} in prompts ({used['cached_tokens']:,} cached by engines),"
        f" {used['output_tokens']:,} written; {used['saved_prompt_tokens'] + used['saved_output_tokens']:,} saved",
        f"time: {summary.timing.seconds:,.1f} s, {summary.timing.rows_per_second:,.1f} rows/s",
        *([summary.deadline.as_text()] if summary.deadline is not None else []),
        f"results: {out / 'results.jsonl'}",
    ]
    if summary.failed:
        lines.append(f"errors: {out / 'errors.jsonl'}")
    typer.echo("\n".join(lines))


def _from_cache(used: "Mapping[str, int]") -> list[str]:
    calls, tools = used["recalled_calls"], used["recalled_tools"]
    return [f"from the cache, of those saved: {calls:,} calls, {tools:,} tools"] if calls or tools else []
