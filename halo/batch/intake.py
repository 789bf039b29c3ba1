"""Rows against a workflow's inputs: those that can run, and what is wrong with each of the others."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from halo.batch.errors import ColumnsUnknown, RowsUnreadable
from halo.batch.given_rows import BadLine, GivenRow
from halo.batch.rows import read_file
from halo.sdk.schemas import NoJsonForm, to_json
from planner.advice import hint
from planner.ir.plan import Input
from planner.ir.values import canonical_json
from planner.table import BadRow, Table, read_rows

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class RowError:
    """A row without a result. `row` counts from 0 over all rows of the file; `line` is where it stands, if known."""

    row: int
    line: int | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Intake:
    """`rows` stand in the file; `rejected` are those that cannot run, in order, and the others make the table.

    `lines[row]` is the line of a row, 0 where there are none. `notes` are for the user.
    """

    rows: int
    rejected: Sequence[RowError]
    lines: Sequence[int]
    notes: tuple[str, ...]


#: A file of rows, or the rows themselves: mappings of what has a JSON form.
Rows = Path | Sequence[Mapping[str, Any]]


def take_in(rows: Rows, inputs: Sequence[Input], limit: int | None = None) -> tuple[Table, Intake]:
    """The rows that can run, and what there is to tell of the others. Reads at most `limit` rows.

    Raises `RowsUnreadable` where there are no rows, and `ColumnsUnknown` when a column that must be there is in none.
    """
    source = _Source(rows, inputs, limit)
    read = read_rows(source, inputs)
    if not source.lines:
        raise RowsUnreadable(f"the rows file {rows} has no rows" if isinstance(rows, Path) else "there are no rows")
    _check_columns(inputs, source.columns, f"of {rows}" if isinstance(rows, Path) else "given")
    rejected = [_rejected(bad, source) for bad in read.bad]
    return read.table, Intake(len(source.lines), rejected, source.lines, _notes(inputs, source.columns))


def rows_digest(rows: Rows) -> str:
    """Equal for equal rows: SHA-256, in hexadecimal, of the file's bytes or of each row's JSON."""
    if isinstance(rows, Path):
        with rows.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for row in rows:
        found = _given(row)
        told = canonical_json(found.columns) if isinstance(found, GivenRow) else found.message
        digest.update(told.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


class _Source:
    """The rows for the planner's reader, which counts them. A bad line is handed on as it is: that is no row either."""

    def __init__(self, rows: Rows, inputs: Sequence[Input], limit: int | None) -> None:
        found = read_file(rows, inputs) if isinstance(rows, Path) else map(_given, rows)
        self._found = islice(found, limit)
        self.lines = array("q")
        self.bad: dict[int, BadLine] = {}
        self.columns: dict[str, None] = {}

    def __iter__(self) -> Iterator[Any]:
        for index, found in enumerate(self._found):
            self.lines.append(found.line or 0)
            if isinstance(found, BadLine):
                self.bad[index] = found
                yield found
                continue
            if not found.columns.keys() <= self.columns.keys():
                self.columns.update(dict.fromkeys(found.columns))
            yield found.columns


def _given(row: Mapping[str, Any]) -> GivenRow | BadLine:
    """A row that comes from Python, as JSON."""
    try:
        columns = to_json(row)
    except NoJsonForm as error:
        return BadLine(None, "invalid_row", f"the row has no JSON form: {error}")
    if not isinstance(columns, dict):
        return BadLine(None, "not_an_object", f"the row is a {type(row).__name__}, not a mapping of inputs")
    return GivenRow(None, columns)


def _rejected(bad: BadRow, source: _Source) -> RowError:
    line = source.bad.get(bad.index)
    if line is not None:
        return RowError(bad.index, line.line, line.code, line.message)
    where = f"row {bad.index + 1}, "
    texts = [str(problem).removeprefix(where) for problem in bad.problems[:_SHOWN_PROBLEMS]]
    more = len(bad.problems) - len(texts)
    if more:
        texts.append(f"and {more} problems more")
    return RowError(bad.index, source.lines[bad.index] or None, "invalid_row", "; ".join(texts))


def _check_columns(inputs: Sequence[Input], columns: dict[str, None], where: str) -> None:
    """A column that no row has is one mistake, not as many as there are rows."""
    if not columns:
        return
    names = [given.name for given in inputs]
    missing = [given.name for given in inputs if given.default is None and given.name not in columns]
    if not missing:
        return
    spare = [column for column in columns if column not in names]
    lines = [f"  {name!r}{hint(name, spare)}" for name in missing]
    there = ", ".join(map(repr, columns))
    raise ColumnsUnknown("\n".join([f"no row {where} has these inputs:", *lines, f"the columns are: {there}"]))


def _notes(inputs: Sequence[Input], columns: dict[str, None]) -> tuple[str, ...]:
    names = [given.name for given in inputs]
    absent = [name for name in names if name not in columns]
    return tuple(
        f"column {column!r} is no input and was ignored{hint(column, absent)}"
        for column in columns
        if column not in names
    )
