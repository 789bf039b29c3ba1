"""Rows of inputs, held as columns."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import jsonschema

from planner.errors import Problem, RowsInvalid
from planner.ir.plan import Input
from planner.ir.values import Json, canonical_json


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` rows of the plan's inputs; `columns[name][row]` is a JSON value. `notes` say what was left out."""

    columns: Mapping[str, Sequence[Json]]
    rows: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert all(len(column) == self.rows for column in self.columns.values())

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Json]], inputs: Sequence[Input]) -> "Table":
        """All rows, or `RowsInvalid` with everything wrong with every row. Rows count from 1 in its text."""
        read = read_rows(rows, inputs)
        if read.bad:
            raise RowsInvalid(tuple(problem for bad in read.bad for problem in bad.problems))
        return read.table

    def row(self, index: int) -> dict[str, Json]:
        return {name: column[index] for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out. `index` counts from 0, the text of its problems from 1."""

    index: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RowsRead:
    """`kept[i]` is the index, among all rows given, of row `i` of the table."""

    table: Table
    kept: Sequence[int]
    bad: tuple[BadRow, ...] = field(default=())


def read_rows(rows: Iterable[Mapping[str, Json]], inputs: Sequence[Input]) -> RowsRead:
    """A table of the rows that fit `inputs`, and what is wrong with each of the others.

    Defaults are filled in. Columns that are no input are left out, with a note.
    """
    cells = [_Cell(given) for given in inputs]
    columns: dict[str, list[Json]] = {given.name: [] for given in inputs}
    kept, bad, strangers = array("q"), [], dict[str, None]()
    for index, row in enumerate(rows):
        problems = _add_row(columns, cells, row, index)
        if problems:
            bad.append(BadRow(index, problems))
            continue
        kept.append(index)
        if len(row) > len(columns) or not row.keys() <= columns.keys():
            strangers.update((str(name), None) for name in row if name not in columns)
    return RowsRead(Table(columns, len(kept), _notes(strangers)), kept, tuple(bad))


def _add_row(
    columns: dict[str, list[Json]], cells: list["_Cell"], row: Mapping[str, Json], index: int
) -> tuple[Problem, ...]:
    """Appends the row to the columns if nothing is wrong with it."""
    if not isinstance(row, Mapping):
        return (Problem(f"row {index + 1}", f"is {type(row).__name__}", "give an object with one value per input"),)
    if all(cell.name in row and cell.fits_plainly(row[cell.name]) for cell in cells):
        for cell in cells:
            columns[cell.name].append(row[cell.name])
        return ()
    problems = tuple(problem for cell in cells if (problem := cell.problem_in(row, index)) is not None)
    if not problems:
        for cell in cells:
            columns[cell.name].append(cell.value_in(row))
    return problems


class _Cell:
    """What one input accepts."""

    def __init__(self, given: Input) -> None:
        self.name = given.name
        self._default = given.default
        self._schema = given.schema
        self._plain_type = _plain_type(given.schema)
        self._validator = None if given.schema is None else jsonschema.Draft202012Validator(given.schema)

    def fits_plainly(self, cell: Json) -> bool:
        """True for the ordinary case, which needs no validator: ASCII text, or a whole number where one is asked."""
        if type(cell) is str:
            return self._plain_type in {"any", "string"} and cell.isascii()
        return type(cell) is int and self._plain_type in {"any", "integer"}

    def value_in(self, row: Mapping[str, Json]) -> Json:
        if self.name in row:
            return row[self.name]
        assert self._default is not None
        return self._default.value

    def problem_in(self, row: Mapping[str, Json], index: int) -> Problem | None:
        where = f"row {index + 1}, column {self.name!r}"
        if self.name not in row:
            if self._default is not None:
                return None
            return Problem(where, "is missing", "give it a value, or give the input a default")
        what = self._complaint(row[self.name])
        return None if what is None else Problem(where, what, "change the value, or the schema of the input")

    def _complaint(self, cell: Json) -> str | None:
        what = not_json(cell)
        if what is not None or self._validator is None:
            return what
        error = next(self._validator.iter_errors(cell), None)
        return None if error is None else f"does not fit the schema at {error.json_path}: {error.message[:200]}"


def not_json(data: Json) -> str | None:
    """What keeps `data` from being written as UTF-8 JSON, or None."""
    try:
        canonical_json(data).encode()
    except RecursionError:
        return "is nested too deeply"
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no text"
    except (TypeError, ValueError) as error:
        return f"is not JSON ({error})"
    return None


def _plain_type(schema: Json) -> str | None:
    """The type a schema asks for when it asks for nothing else; "any" when there is none."""
    if schema is None:
        return "any"
    asked = {key: what for key, what in schema.items() if key not in {"title", "description", "default", "examples"}}
    kind = asked.pop("type", None)
    return kind if isinstance(kind, str) and not asked else None


def _notes(strangers: Mapping[str, None]) -> tuple[str, ...]:
    if not strangers:
        return ()
    names = ", ".join(repr(name) for name in strangers)
    return (f"columns that are no input were ignored: {names}",)
