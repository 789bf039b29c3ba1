"""The `halo` command: one file for each group of commands; packages above Halo add their own."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from halo.cli import batch, cache, database, doctor, engines, explain, fleet, replay, run, serve, version, why
from halo.cli.console import warn
from halo.cli.failures import FailuresTold

GROUP = "halo.commands"


def main() -> None:
    """What the console script and `python -m halo` run."""
    app = make_app()
    add_installed(app, entry_points(group=GROUP))
    app()


def make_app() -> typer.Typer:
    """The command with Halo's own part of it."""
    app = typer.Typer(
        name="halo",
        cls=FailuresTold,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_root,
    )
    for module in (run, explain, batch, cache, engines, fleet, replay, doctor, database, serve, why, version):
        module.register(app)
    return app


def add_installed(app: typer.Typer, points: Iterable[EntryPoint]) -> None:
    """Each point is a Typer app: a command, if it has just one, or a group. What cannot be added is warned of."""
    taken = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for point in sorted(points, key=lambda point: point.name):
        if point.name in taken:
            warn(f"the command {point.name!r} of {point.value} is left out: Halo has one of that name")
        else:
            _add(app, point)


def _root(
    debug: Annotated[bool, typer.Option("--debug", envvar="HALO_DEBUG", help="Show tracebacks and all logs.")] = False,
) -> None:
    """Run agent programs on fleets of vLLM engines.

    A workflow is named as `module:name`, `path/to/file.py:name`, or by the name it was installed
    under. Results go to stdout; progress and logs to stderr.

    Exit codes: 0 all is well, 1 something failed, 2 what was asked cannot be done so, 130 stopped with Ctrl-C.
    """
    from halo.cli.logs import configure_logs

    configure_logs(debug=debug)


def _add(app: typer.Typer, point: EntryPoint) -> None:
    """A package that fails to load costs its own command, not ours."""
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - foreign code is imported here, and may raise anything
        warn(f"the command {point.name!r} of {point.value} is left out: {type(error).__name__}: {error}")
        return
    if not isinstance(found, typer.Typer):
        warn(f"the command {point.name!r} of {point.value} is left out: it is no Typer app")
        return
    if len(found.registered_commands) == 1 and not found.registered_groups and found.registered_callback is None:
        (command,) = found.registered_commands
        command.name = point.name
        app.registered_commands.append(command)
    else:
        app.add_typer(found, name=point.name)
