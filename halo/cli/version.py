"""`halo version`."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import typer

from halo.cli.console import print_json
from halo.cli.options import AsJson

DISTRIBUTION = "halo-orchestrator"


def register(app: typer.Typer) -> None:
    app.command("version")(version)


def version(as_json: AsJson = False) -> None:
    """Print the version of Halo and of Python."""
    found = {"halo": halo_version(), "python": platform.python_version()}
    if as_json:
        print_json(found)
    else:
        typer.echo(f"halo {found['halo']} (Python {found['python']})")


def halo_version() -> str:
    try:
        return installed_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed (run from its source)"
