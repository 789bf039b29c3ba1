"""A workflow on many rows."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo.sdk.errors import NotRun
from halo.sdk.explain import Row
from halo.sdk.runtime import analyze_run, run_job

if TYPE_CHECKING:
    from halo.sdk.workflow import Workflow
    from planner.analysis import Analysis


class Job:
    """What `workflow.map(rows)` gives: nothing is run yet. `rows` are mappings of inputs, or a file of them."""

    def __init__(self, workflow: "Workflow[..., Any]", rows: Iterable[Row] | str | Path) -> None:
        self.workflow = workflow
        self.rows: list[Row] | Path = Path(rows) if isinstance(rows, str | Path) else list(rows)

        self._recorded: Any = None

    def explain(self, *, engines: Any = None) -> str:
        """What would be run, as `workflow.explain(rows)` tells it."""
        return self.workflow.explain(self.rows, engines=engines)

    def run(self, out: str | Path | None = None, **options: Any) -> Any:
        """Run every row through the scheduler; results go to the folder `out` where one is named.

        `options` (engines, resume, ...) are those of `halo.local.run_job`. Raises `SchedulerMissing`.
        """
        return run_job(self.workflow, self.rows, out=out, on_recorded=self._keep, **options)

    def analyze(self) -> "Analysis":
        """What was predicted of the job and what became of it, when it was run last: `print(job.analyze())`.

        The prediction is made again from the workflow and the rows. Raises `NotRun` before `run`.
        """
        if self._recorded is None:
            raise NotRun(f"the job {self.workflow.name!r} was not run yet: call .run() first, or .explain()")
        return analyze_run(self._recorded)

    def _keep(self, recorded: Any) -> None:
        self._recorded = recorded

    def __repr__(self) -> str:
        rows = str(self.rows) if isinstance(self.rows, Path) else f"{len(self.rows)} rows"
        return f"<halo job {self.workflow.name}: {rows}>"
