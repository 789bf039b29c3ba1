"""`halo why`: for each call of a run the engines that were considered, their predicted seconds, and the reason."""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, print_table, say
from halo.cli.options import AsJson

if TYPE_CHECKING:
    from halo.service.schemas.decisions import EngineConsidered, RunDecision
    from halo.why import Asked, Why

_EXAMPLES = """Examples:

  halo why run_0198c

  halo why out/ --row 7 --node write_sql

  halo why run_0198c --server http://localhost:8080 --json
"""
_Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run or job of the service, or the output folder of halo batch run.", show_default=False
    ),
]
_Node = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Only the calls at this path; each engine is shown.", show_default=False),
]
_Row = Annotated[int | None, typer.Option(min=0, help="Only the calls of this row.", show_default=False)]
_Limit = Annotated[int, typer.Option(min=1, help="Show no more decisions than these.")]
_Database = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the run is kept: sqlite:///halo.db or PostgreSQL.", show_default=False),
]
_Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The server to ask, which also tells what waits now. Without it HALO_URL, else the database.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    app.command("why", epilog=_EXAMPLES)(why)


def why(
    run: _Run,
    node: _Node = None,
    row: _Row = None,
    limit: _Limit = 100,
    database: _Database = None,
    server: _Server = None,
    as_json: AsJson = False,
) -> None:
    """Show why each call of a run went to its engine, and while the run goes on, why what waits does.

    Seconds are predictions made when the call was sent: the work that was before it on the engine, its prompt where
    that was not warm, and its answer. Of a run of many rows only some rows' decisions are kept.
    """
    from halo.why import Asked

    found = _found(Asked(run, row, node, limit), database, server)
    if as_json:
        print_json(_as_json(found))
        return
    if node is None:
        print_table(_COLUMNS, map(_cells, found.decisions))
    for decision in found.decisions if node is not None else ():
        _print_whole(decision)
    for line in _notes(found):
        say(line)
    if found.now:
        rows = ((str(one.row), one.path or "(not begun)", str(one.attempt), one.why) for one in found.now)
        typer.echo("")
        print_table(("row", "node", "try", "now"), rows)


def _found(asked: "Asked", database: str | None, server: str | None) -> "Why":
    from halo.event_loop import run_async
    from halo.sdk.client import SERVER_URL
    from halo.settings import read_settings
    from halo.why import why_in_folder, why_on_server, why_stored

    if server is not None and database is not None:
        raise typer.BadParameter("name a server or a database", param_hint="--server")
    if Path(asked.run).is_dir():
        return run_async(why_in_folder(asked, Path(asked.run)))
    if server is not None or (database is None and SERVER_URL in os.environ):
        return why_on_server(asked, server)
    return run_async(why_stored(asked, database or read_settings().database_url))


_COLUMNS = ("at", "row", "node", "try", "engine", "waited", "queue", "prefill", "decode", "warm", "next best", "reason")


def _cells(decision: "RunDecision") -> Sequence[str]:
    taken = next((one for one in decision.considered if one.engine == decision.engine), None)
    seconds = ("", "", "", "")
    if taken is not None:
        warm = f"{taken.warm_tokens:,}/{taken.prompt_tokens:,}"
        seconds = (_seconds(taken.queue_s), _seconds(taken.prefill_s), _seconds(taken.decode_s), warm)
    node, attempt = decision.path, str(decision.attempt)
    return (
        _clock(decision.at), str(decision.row), node, attempt, decision.engine, _seconds(decision.waited_s), *seconds,
        _next_best(decision), _reason(decision)
    )  # fmt: skip


def _next_best(decision: "RunDecision") -> str:
    others = [one for one in decision.considered if one.engine != decision.engine]
    return f"{others[0].engine} {_seconds(others[0].done_s)}" if others else ""


def _reason(decision: "RunDecision") -> str:
    return f"{decision.reason}; tried again after {decision.after}" if decision.after else decision.reason


def _print_whole(decision: "RunDecision") -> None:
    """One decision with each engine that is told."""
    head = f"{_clock(decision.at)} row {decision.row} {decision.path}, try {decision.attempt}: {decision.engine}"
    typer.echo(f"{head}, after {_seconds(decision.waited_s)}")
    typer.echo(f"  {_reason(decision)}")
    columns = ("  engine", "done", "queue", "prefill", "decode", "warm", "calls there", "")
    print_table(columns, (_considered(one, decision.engine) for one in decision.considered))
    if decision.engines > len(decision.considered):
        typer.echo(f"  and {decision.engines - len(decision.considered):,} more engines, which would be done later")
    typer.echo("")


def _considered(one: "EngineConsidered", taken: str) -> Sequence[str]:
    seconds = (_seconds(value) for value in (one.done_s, one.queue_s, one.prefill_s, one.decode_s))
    said = "taken" if one.engine == taken else "" if one.room else "no room"
    return (f"  {one.engine}", *seconds, f"{one.warm_tokens:,}/{one.prompt_tokens:,}", str(one.running), said)


def _notes(found: "Why") -> Iterator[str]:
    if found.every > 1:
        yield f"decisions are kept of every {found.every:,}th row, and of calls that were tried again"
    if found.more:
        yield f"there are more than {len(found.decisions):,}: see --limit, --row and --node"
    if not found.decisions:
        yield "no decision is kept: no call was sent, answers came from elsewhere, or keeping is switched off"


def _as_json(found: "Why") -> dict[str, object]:
    return {
        "run": found.run,
        "every": found.every,
        "more": found.more,
        "decisions": [one.model_dump(mode="json") for one in found.decisions],
        "now": [one.model_dump(mode="json") for one in found.now],
    }


def _seconds(value: float) -> str:
    return f"{value:,.3f} s" if value < 10 else f"{value:,.1f} s"


def _clock(at: str) -> str:
    """By the clock of this machine."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
