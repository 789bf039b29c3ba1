"""What a workflow would do, told before anything runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo.sdk.runtime import explain_rows
from planner.ir.render import render
from planner.ir.values import Json

if TYPE_CHECKING:
    from halo.sdk.workflow import Workflow

Row = Mapping[str, Json]


def explain(workflow: "Workflow[..., Any]", rows: Iterable[Row] | Path | None = None, engines: Any = None) -> str:
    """The plan as text; for given rows also how often each stage is called, what merging and prefixes save, and what
    engine time and money it takes.

    `engines` are those of `halo.local.run_job`. Raises `RowsInvalid`, or a `BatchError` for a file or an engine.
    """
    if rows is None:
        return render(workflow.plan)
    found = rows if isinstance(rows, Path) else list(rows)
    told, odd = explain_rows(workflow, found, engines=engines)
    notes = "".join(f"note: {note}\n" for note in odd)
    return f"{render(workflow.plan)}\n{told.to_text()}{notes}"
