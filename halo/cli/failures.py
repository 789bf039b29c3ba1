"""The one place where errors become what a person reads, and an exit code."""

import os
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from halo.cli.console import err, fail, say

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DEBUG = "HALO_DEBUG"


class FailuresTold(TyperGroup):
    """The root command: whatever a command raises ends as one readable block, never as a traceback of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except KeyboardInterrupt:
            say("stopped")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 - the driver of the command line: every failure becomes an exit code
            raise typer.Exit(tell(error, debug=bool(ctx.params.get("debug")))) from None


def tell(error: BaseException, *, debug: bool = False) -> int:
    """Says what went wrong, and gives the exit code."""
    code = exit_code_of(error)
    if code is None:
        fail(f"this is a bug in Halo: {type(error).__name__}: {error}")
        if debug:
            err().print("".join(traceback.format_exception(error)), markup=False)
        else:
            say(f"Run the command again with {DEBUG}=1 to see where it happened, and please report it.")
        return FAILED
    fail(str(error) if not isinstance(error, OSError) else _told(error))
    return code


def exit_code_of(error: BaseException) -> int | None:
    """None for what no user can cause."""
    from executor.engines.local_recipe import EngineNotRunning
    from executor.errors import ExecutorError
    from executor.store.failures import Fenced, IdempotencyConflict, JobUnknown, StoreRefused, StoreUnavailable
    from halo.batch.errors import BatchStopped, JobFailed
    from halo.sdk.errors import HaloError, RunFailed, ServerFailed
    from halo.settings import SettingsInvalid
    from kvstore.program_state import StateUnavailable
    from planner.errors import PlanError

    match error:
        case BatchStopped():
            return INTERRUPTED
        case RunFailed() | ServerFailed() | JobFailed() | EngineNotRunning():
            return FAILED
        case StoreUnavailable() | StateUnavailable() | Fenced() | OSError():
            return FAILED
        case HaloError() | PlanError() | ExecutorError() | SettingsInvalid():
            return USAGE
        case StoreRefused() | JobUnknown() | IdempotencyConflict():
            return USAGE
        case _:
            return None


def _told(error: OSError) -> str:
    where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, str | os.PathLike) else ""
    return f"{where}{error.strerror or error}"
