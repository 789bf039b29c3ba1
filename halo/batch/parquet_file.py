"""Rows from Parquet."""

from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path

from halo.batch.errors import RowsUnreadable
from halo.batch.given_rows import BadLine, GivenRow, check_names, optional_names
from planner.ir.plan import Input
from planner.ir.values import Json

_ROWS_AT_ONCE = 1000


def read_parquet(path: Path, inputs: Sequence[Input]) -> Iterator[GivenRow | BadLine]:
    """Dates and times become ISO 8601 text, decimals their digits as text, also inside lists and structs.

    Raises `RowsUnreadable`, also in the middle of a broken file.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    optional = optional_names(inputs)
    try:
        with ParquetFile(path) as file:
            check_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield GivenRow(None, _columns(row, optional))
    except (ArrowException, ValueError) as error:  # Arrow tells of times that Python cannot hold by a plain ValueError
        raise RowsUnreadable(f"{path} is not a Parquet file that can be read: {str(error)[:300]}") from None


def _columns(row: dict[str, Json], optional: frozenset[str]) -> dict[str, Json]:
    given = {name: cell for name, cell in row.items() if cell is not None or name not in optional}
    return {name: _json(cell) for name, cell in given.items()}


def _json(cell: Json) -> Json:
    match cell:
        case date() | time():
            return cell.isoformat()
        case Decimal():
            return str(cell)
        case list():
            return [_json(item) for item in cell]
        case dict():
            return {name: _json(item) for name, item in cell.items()}
        case _:
            return cell
