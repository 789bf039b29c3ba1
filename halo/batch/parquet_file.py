"""Rows from Parquet."""

from collections.abc import Iterator, Sequence
from datetime import date, time
from pathlib import Path

from halo.batch.errors import RowsUnreadable
from halo.batch.rows import BadLine, GivenRow, optional_names
from planner.ir.plan import Input
from planner.ir.values import Json

_ROWS_AT_ONCE = 1000


def read_parquet(path: Path, inputs: Sequence[Input]) -> Iterator[GivenRow | BadLine]:
    """Dates and times become ISO 8601 text. Raises `RowsUnreadable`, also in the middle of a broken file."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    optional = optional_names(inputs)
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield GivenRow(None, _columns(row, optional))
    except ArrowException as error:
        raise RowsUnreadable(f"{path} is not a Parquet file that can be read: {str(error)[:300]}") from None


def _columns(row: dict[str, Json], optional: frozenset[str]) -> dict[str, Json]:
    given = {name: cell for name, cell in row.items() if cell is not None or name not in optional}
    return {name: cell.isoformat() if isinstance(cell, date | time) else cell for name, cell in given.items()}
