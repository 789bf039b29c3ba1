"""What a user of the batch runner can get wrong.

    BatchError
    ├── RowsUnreadable     the rows file cannot be used as a whole: not there, empty, of no known kind
    ├── ColumnsUnknown     no row has a column the workflow needs
    ├── FolderRefused      the output folder cannot be used for this run
    ├── EnginesUnnamed     nothing says which engines to use, or what is said is no engine
    ├── EnginesUnfit       no engine serves a model the workflow names
    ├── BatchStopped       it was asked to stop, and can be gone on with
    └── JobFailed          some rows of a job run from Python failed; `errors` tells which

What is wrong with single rows is no exception: they go to `errors.jsonl` and the others run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halo.sdk.errors import HaloError

_SHOWN_ROWS = 10


class BatchError(HaloError):
    """Any failure of a batch that its user can cause."""


class RowsUnreadable(BatchError):
    pass


class ColumnsUnknown(BatchError):
    pass


class FolderRefused(BatchError):
    pass


class EnginesUnnamed(BatchError):
    pass


class EnginesUnfit(BatchError):
    pass


class BatchStopped(BatchError):
    """What was finished is kept in `out`; running it again with `resume` goes on from there."""

    def __init__(self, out: Path) -> None:
        super().__init__(f"stopped; what is finished is kept in {out}")
        self.out = out


@dataclass(frozen=True, slots=True)
class RowFailed:
    """Stands where the result of a row that failed would. `row` counts from 0; `code` is stable."""

    row: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.code}: {self.message}"


class JobFailed(BatchError):
    """`errors` has every row that failed; `results` those of all rows, with a `RowFailed` in place of each of these."""

    def __init__(self, results: Sequence[Any]) -> None:
        self.results = list(results)
        self.errors = [result for result in results if isinstance(result, RowFailed)]
        super().__init__(_tell(self.errors, len(self.results)))


def _tell(errors: Sequence[RowFailed], rows: int) -> str:
    lines = [f"  {error}" for error in errors[:_SHOWN_ROWS]]
    if len(errors) > _SHOWN_ROWS:
        lines.append(f"  ... and {len(errors) - _SHOWN_ROWS} more")
    return "\n".join([f"{len(errors)} of {rows} rows failed; the others' results are in `.results`:", *lines])
