"""Rows from a file, one after the other. What is wrong with one of them is told in its place; the others come all the
same."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from halo.batch.errors import RowsUnreadable
from halo.batch.given_rows import BadLine, GivenRow
from planner.ir.plan import Input

Reader = Callable[[Path, Sequence[Input]], Iterator[GivenRow | BadLine]]


def read_file(path: Path, inputs: Sequence[Input]) -> Iterator[GivenRow | BadLine]:
    """Every row of a .jsonl, .csv or .parquet file, in order; blank lines are no rows.

    CSV has only text, so cells are read as the `inputs` want them. An empty CSV cell and a Parquet null are taken as
    not given where the input has a default. Raises `RowsUnreadable` for a file that is of no use as a whole.
    """
    reader = _readers().get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_readers())
        raise RowsUnreadable(f"{path} is of no kind that holds rows: name a file that ends in {kinds}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RowsUnreadable(f"the rows file {path} {what}; you are in {Path.cwd()}")
    try:
        yield from reader(path, inputs)
    except OSError as error:
        raise RowsUnreadable(f"the rows file {path} cannot be read: {error.strerror or error}") from None


def _readers() -> dict[str, Reader]:
    from halo.batch.csv_file import read_csv
    from halo.batch.jsonl_file import read_jsonl
    from halo.batch.parquet_file import read_parquet

    return {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
