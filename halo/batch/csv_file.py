"""Rows from CSV: the first line names the columns."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from halo.batch.cells import json_cell, takes_text
from halo.batch.errors import RowsUnreadable
from halo.batch.given_rows import MAX_ROW_BYTES, BadLine, GivenRow, check_names, optional_names
from halo.batch.lines import read_lines
from planner.ir.plan import Input
from planner.ir.values import Json

ReadCell = Callable[[str], Json]


def read_csv(path: Path, inputs: Sequence[Input]) -> Iterator[GivenRow | BadLine]:
    """A row for each record; cells of inputs that are no text are read as JSON. Raises `RowsUnreadable`."""
    before = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        records = _records(path)
        header = _header(path, records)
        cells = _Cells(header, inputs)
        for line, record in records:
            yield record if isinstance(record, BadLine) else cells.row(line, record)
    finally:
        csv.field_size_limit(before)


def _records(path: Path) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Each record with the number of its first line. A record with a bad line in it is bad as a whole."""
    lines = _Lines(path)
    reader = csv.reader(lines, strict=True)
    while True:
        first = reader.line_num + 1
        lines.bad = None
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, BadLine(first, "invalid_csv", f"the record is not CSV: {error}")
            continue
        if lines.bad is not None:
            yield first, lines.bad
        elif record:
            yield first, record


class _Lines:
    """Lines for the CSV reader, which cannot be told of a bad one: it gets a blank line, and `bad` is set."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self.bad: BadLine | None = None

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        if isinstance(line, str):
            return line
        self.bad = line
        return "\n"


def _header(path: Path, records: Iterator[tuple[int, list[str] | BadLine]]) -> list[str]:
    _, header = next(records, (0, None))
    if header is None:
        raise RowsUnreadable(f"the rows file {path} is empty: its first line must name the columns")
    if isinstance(header, BadLine):
        raise RowsUnreadable(f"the first line of {path} must name the columns: {header.message}")
    names = [name.strip() for name in header]
    check_names(path, names)
    return names


class _Cells:
    """How the cells of each column are read."""

    def __init__(self, header: list[str], inputs: Sequence[Input]) -> None:
        self._header = header
        self._optional = optional_names(inputs)
        self._readers: dict[str, ReadCell] = {given.name: json_cell for given in inputs if not takes_text(given)}

    def row(self, line: int, record: list[str]) -> GivenRow | BadLine:
        if len(record) != len(self._header):
            message = f"the record has {len(record)} cells, the first line names {len(self._header)} columns"
            return BadLine(line, "wrong_cell_count", message)
        pairs = zip(self._header, record, strict=True)
        return GivenRow(line, {name: self._read(name, cell) for name, cell in pairs if self._given(name, cell)})

    def _given(self, name: str, cell: str) -> bool:
        return cell != "" or name not in self._optional

    def _read(self, name: str, cell: str) -> Json:
        read = self._readers.get(name)
        return cell if read is None else read(cell)
