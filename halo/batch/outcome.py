"""What a batch leaves behind: results, errors and a summary, all from the store."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from executor.commands import Status
from executor.store.told import ResultRow
from halo.batch.folder import ERRORS, RESULTS, Folder
from halo.batch.intake import Intake, RowError
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row that succeeded. `row` counts from 0 over all rows of the file."""

    row: int
    result: Json


@dataclass(slots=True)
class Tally:
    """Rows by how they ended; `failures` counts them by code."""

    succeeded: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return self.failures.total()


async def outcomes(results: AsyncIterator[ResultRow], intake: Intake) -> AsyncIterator[RowResult | RowError]:
    """Each row of the file once, in order: what the store has of it, or why it never ran."""
    rejected = iter(intake.rejected)
    bad = next(rejected, None)
    for row in range(intake.rows):
        if bad is not None and bad.row == row:
            yield bad
            bad = next(rejected, None)
        else:
            yield _outcome(row, intake.lines[row] or None, await anext(results))


async def write_outcomes(folder: Folder, results: AsyncIterator[ResultRow], intake: Intake) -> Tally:
    """Writes results and errors. The same rows and answers give the same bytes, however often the job was begun."""
    tally = Tally()
    with folder.writing(RESULTS) as succeeded, folder.writing(ERRORS) as failed:
        async for outcome in outcomes(results, intake):
            if isinstance(outcome, RowResult):
                succeeded.add({"row": outcome.row, "result": outcome.result})
                tally.succeeded += 1
            else:
                failed.add(_error_line(outcome))
                tally.failures[outcome.code] += 1
    return tally


def _outcome(row: int, line: int | None, found: ResultRow) -> RowResult | RowError:
    if found.status is Status.SUCCEEDED:
        return RowResult(row, found.result)
    if found.failure is not None:
        return RowError(row, line, found.failure.code, found.failure.message)
    code = "not_finished" if found.status is None else str(found.status)
    return RowError(row, line, code, "the job ended before this row did")


def _error_line(error: RowError) -> Mapping[str, Any]:
    return {"row": error.row, "line": error.line, "code": error.code, "message": error.message}
