"""A workflow on many rows."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo.sdk.explain import Row
from halo.sdk.runtime import run_job

if TYPE_CHECKING:
    from halo.sdk.workflow import Workflow


class Job:
    """What `workflow.map(rows)` gives: nothing is run yet. `rows` are mappings of inputs, or a file of them."""

    def __init__(self, workflow: "Workflow[..., Any]", rows: Iterable[Row] | str | Path) -> None:
        self.workflow = workflow
        self.rows: list[Row] | Path = Path(rows) if isinstance(rows, str | Path) else list(rows)

    def explain(self) -> str:
        """What would be run. Of a file of rows, only its name is told."""
        if isinstance(self.rows, Path):
            return f"{self.workflow.explain()}\nrows: {self.rows}"
        return self.workflow.explain(self.rows)

    def run(self, out: str | Path | None = None, **options: Any) -> Any:
        """Run every row through the scheduler; results go to the folder `out` where one is named.

        `options` (engines, resume, ...) are those of `halo.local.run_job`. Raises `SchedulerMissing`.
        """
        return run_job(self.workflow, self.rows, out=out, **options)

    def __repr__(self) -> str:
        rows = str(self.rows) if isinstance(self.rows, Path) else f"{len(self.rows)} rows"
        return f"<halo job {self.workflow.name}: {rows}>"
