"""`halo cache`: the results that batches on this machine keep for later ones."""

import os
from typing import Annotated

import typer

from halo.cli.console import print_json
from halo.cli.options import AsJson

_Url = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Of a service's results: its database. Without it, those of `halo batch run` on this machine.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look after results that are kept for later jobs.")
    group.command("show", epilog="Example:\n\n  halo cache show --json")(show)
    group.command("clear", epilog="Example:\n\n  halo cache clear --database sqlite:///halo.db")(clear)
    app.add_typer(group, name="cache")


def show(database: _Url = None, as_json: AsJson = False) -> None:
    """How many results are kept, and how many bytes that is."""
    from halo.batch.cache_file import CacheUse
    from halo.event_loop import run_async

    use = CacheUse.of(database, os.environ)
    size = run_async(use.size())
    if as_json:
        print_json({"database": use.url, "results": size.entries, "bytes": size.bytes})
    else:
        typer.echo(f"{size.entries:,} results, {size.bytes:,} bytes in {use.url}")


def clear(database: _Url = None, as_json: AsJson = False) -> None:
    """Forget all results: the next jobs do all of their work. No job and no result of a job is touched."""
    from halo.batch.cache_file import CacheUse
    from halo.event_loop import run_async

    use = CacheUse.of(database, os.environ)
    forgotten = run_async(use.clear())
    if as_json:
        print_json({"database": use.url, "forgotten": forgotten})
    else:
        typer.echo(f"{forgotten:,} results forgotten")
