"""The one seam between the SDK and the part of Halo that runs jobs.

`halo.sdk` imports only `planner`, so that `import halo` stays light in a user's program. A job needs the scheduler,
engines and a store; they are loaded here, by name, when a job is run or explained and not before.
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from halo.sdk.errors import SchedulerMissing

if TYPE_CHECKING:
    from planner.analysis import Analysis
    from planner.explanation import Explanation

_RUNNER = "halo.local"


def run_job(workflow: Any, rows: Any, **options: Any) -> Any:
    """`halo.local.run_job(workflow, rows, **options)`. Raises `SchedulerMissing` when that part is not installed."""
    return _runner().run_job(workflow, rows, **options)


def explain_rows(workflow: Any, rows: Any, **options: Any) -> "tuple[Explanation, Sequence[str]]":
    """`halo.local.explain_rows(workflow, rows, **options)`. Raises `SchedulerMissing`."""
    told: tuple[Explanation, Sequence[str]] = _runner().explain_rows(workflow, rows, **options)
    return told


def analyze_run(recorded: Any) -> "Analysis":
    """`halo.local.analyze_run(recorded)`. Raises `SchedulerMissing`."""
    told: Analysis = _runner().analyze_run(recorded)
    return told


def _runner() -> Any:
    try:
        return importlib.import_module(_RUNNER)
    except ModuleNotFoundError as error:
        raise SchedulerMissing(
            f"jobs need all of Halo, and {error.name!r} is missing: pip install halo-orchestrator"
        ) from error
