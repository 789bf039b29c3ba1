"""`halo serve`: the HTTP service."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from halo.cli.options import EngineUrls, Fleet, Models, Rule, complete_workflow, rule_name

_EXAMPLES = """Examples:

  halo serve --workflow flows.py:answer --engine http://localhost:8000

  halo serve --settings halo.toml

Every setting can also be given as a variable: HALO_PORT, HALO_DATABASE_URL, HALO_REDIS_URL, HALO_WORKFLOWS, ...
"""
_Settings = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE.toml", help="A file of settings.", show_default=False)
]
_Workflows = Annotated[
    list[str] | None,
    typer.Option(
        "--workflow",
        metavar="WORKFLOW",
        help="A workflow to serve; may be given several times. Without any, the installed ones are served.",
        autocompletion=complete_workflow,
    ),
]
_Host = Annotated[str | None, typer.Option(help="127.0.0.1 unless told otherwise.", show_default=False)]
_Port = Annotated[int | None, typer.Option(help="8080 unless told otherwise; 0 takes any.", show_default=False)]
_Database = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="sqlite:///halo.db unless told otherwise.")
]
_Redis = Annotated[str | None, typer.Option("--redis", metavar="URL", help="Without one: a single process.")]


def register(app: typer.Typer) -> None:
    app.command("serve", epilog=_EXAMPLES)(serve)


def serve(
    workflow: _Workflows = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    host: _Host = None,
    port: _Port = None,
    database: _Database = None,
    redis: _Redis = None,
    rule: Rule = None,
    settings: _Settings = None,
) -> None:
    """Serve workflows over HTTP, until Ctrl-C; unfinished runs are gone on with at the next start."""
    from halo.batch.engines import named_engines
    from halo.service import serve as service
    from halo.settings import read_settings

    given: dict[str, Any] = {"host": host, "port": port, "database_url": database, "redis_url": redis}
    given |= {"workflows": tuple(workflow) if workflow else None, "rule": rule_name(rule)}
    chosen = read_settings(settings, **{name: value for name, value in given.items() if value is not None})
    if engine or model or fleet or chosen.fleet is None:
        engines = named_engines(engine or (), model or (), fleet, os.environ)
    else:
        engines = None
    raise typer.Exit(service.serve(chosen, engines))
