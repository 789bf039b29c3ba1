"""`halo db`: the tables of a database."""

from typing import Annotated

import typer

from halo.cli.console import print_json
from halo.cli.options import AsJson

_Url = Annotated[
    str, typer.Argument(metavar="URL", help="sqlite:///halo.db or postgresql://user@host/database", show_default=False)
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look after a database.")
    group.command("upgrade", epilog="Example:\n\n  halo db upgrade postgresql://halo@db-host/halo")(upgrade)
    group.callback()(_group)
    app.add_typer(group, name="db")


def _group() -> None:
    """Look after a database."""


def upgrade(url: _Url, as_json: AsJson = False) -> None:
    """Bring a database's tables up to date; all of it is done, or nothing."""
    from executor.store import sql
    from executor.store.tables import SCHEMA_REVISION
    from halo.event_loop import run_async

    run_async(sql.upgrade(url))
    if as_json:
        print_json({"schema": SCHEMA_REVISION})
    else:
        typer.echo(f"the database is up to date (schema {SCHEMA_REVISION})")
