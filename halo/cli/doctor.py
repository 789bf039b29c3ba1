"""`halo doctor`: what is wrong with this machine, and how to mend it."""

import os
from pathlib import Path

import typer
from rich.text import Text

from halo.cli.console import out, print_json
from halo.cli.options import AsJson, EngineUrls, Fleet, Models

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example:\n\n  halo doctor --fleet fleet.toml")(doctor)


def doctor(engine: EngineUrls = None, model: Models = None, fleet: Fleet = None, as_json: AsJson = False) -> None:
    """Check Python, packages, database, Redis, engines and disk. The exit code is 1 when something must be mended."""
    from halo.doctor import Level, examine, patient
    from halo.event_loop import run_async

    found = run_async(examine(patient(os.environ, Path.cwd(), engine or (), model or (), fleet)))
    if as_json:
        print_json([check.as_json() for check in found])
    for check in [] if as_json else found:
        out().print(
            Text.assemble((f"{check.level:<5}", _COLOURS[check.level]), f"{check.name}: {check.detail}"), soft_wrap=True
        )
        if check.fix:
            out().print(Text(f"     fix: {check.fix}"), soft_wrap=True)
    raise typer.Exit(1 if any(check.level is Level.FAIL for check in found) else 0)
