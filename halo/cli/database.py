"""`halo db`: the tables of a database."""

from typing import Annotated

import typer

from halo.cli.console import print_json
from halo.cli.options import AsJson

_Url = Annotated[
    str, typer.Argument(metavar="URL", help="sqlite:///halo.db or postgresql://user@host/database", show_default=False)
]


_SWEEP_EXAMPLES = """Examples:

  halo db sweep sqlite:///halo.db --older-than 30d --dry-run

  halo db sweep postgresql://halo@db-host/halo --older-than 90d --json"""

_OlderThan = Annotated[
    str,
    typer.Option(metavar="TIME", help="Forget runs that ended longer ago: 30d, 12h; at least 1h.", show_default=False),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count them.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look after a database.")
    group.command("upgrade", epilog="Example:\n\n  halo db upgrade postgresql://halo@db-host/halo")(upgrade)
    group.command("sweep", epilog=_SWEEP_EXAMPLES)(sweep)
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


def sweep(url: _Url, older_than: _OlderThan, dry_run: _DryRun = False, as_json: AsJson = False) -> None:
    """Forget runs and batches that ended long ago: their rows, results, events and decisions.

    Nothing that waits or runs is touched, nor what it still needs of others; a service may work on meanwhile. A file of
    SQLite does not shrink: the room is used again. The idempotency keys of what was forgotten may be used again.
    """
    from halo.event_loop import run_async

    age_s = _age_s(older_than)
    count = run_async(_sweep(url, age_s, dry_run))
    if as_json:
        print_json({"forgotten": 0 if dry_run else count, "old": count})
    else:
        what = "would be forgotten" if dry_run else "are forgotten"
        typer.echo(f"{count:,} runs that ended more than {older_than} ago {what}")


def _age_s(given: str) -> float:
    from halo.sdk.durations import seconds
    from halo.sweep import LEAST_AGE_S

    try:
        age_s = seconds(given)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: write 30d or 12h", param_hint="--older-than") from None
    if age_s < LEAST_AGE_S:
        raise typer.BadParameter(f"{given} is too soon: write 1h or more", param_hint="--older-than")
    return age_s


async def _sweep(url: str, age_s: float, dry_run: bool) -> int:
    from executor.clock import WallClock
    from executor.store.sql import open_store
    from halo.analysis import require_file
    from halo.sweep import sweep

    require_file(url, "name the one that the service has")
    store = await open_store(url)
    try:
        if dry_run:
            return len(await store.forgettable(age_s))
        return await sweep(store, age_s, WallClock())
    finally:
        await store.close()
