"""The one seam between the SDK and the part of Halo that runs jobs.

`halo.sdk` imports only `planner`, so that `import halo` stays light in a user's program. A job needs the scheduler,
engines and a store; they are loaded here, by name, when a job is run and not before.
"""

import importlib
from typing import Any

from halo.sdk.errors import SchedulerMissing

_RUNNER = "halo.local"


def run_job(workflow: Any, rows: Any, **options: Any) -> Any:
    """`halo.local.run_job(workflow, rows, **options)`. Raises `SchedulerMissing` when that part is not installed."""
    try:
        runner = importlib.import_module(_RUNNER)
    except ModuleNotFoundError as error:
        raise SchedulerMissing(
            f"jobs need all of Halo, and {error.name!r} is missing: pip install halo-orchestrator"
        ) from error
    return runner.run_job(workflow, rows, **options)
