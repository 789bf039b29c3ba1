"""`halo version`."""

import platform

import typer

from halo.cli.console import print_json
from halo.cli.options import AsJson
from halo.distribution import installed_version


def register(app: typer.Typer) -> None:
    app.command("version", epilog="Example:\n\n  halo version --json")(version)


def version(as_json: AsJson = False) -> None:
    """Print the version of Halo and of Python."""
    found = {"halo": installed_version() or "not installed (run from its source)", "python": platform.python_version()}
    if as_json:
        print_json(found)
    else:
        typer.echo(f"halo {found['halo']} (Python {found['python']})")
