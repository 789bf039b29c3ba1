"""What a file of rows gives, line by line, and what may be wrong with it, whatever kind of file it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halo.batch.errors import RowsUnreadable
from planner.ir.plan import Input
from planner.ir.values import Json

MAX_ROW_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class GivenRow:
    """One row as the file gives it. `line` counts from 1; None where the kind of file has no lines."""

    line: int | None
    columns: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class BadLine:
    """What stands where a row should, and is none. `code` is stable; `message` is for people."""

    line: int | None
    code: str
    message: str


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises `RowsUnreadable` when two columns have one name: a row could hold only one of them."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RowsUnreadable(f"{path} names a column more than once: {', '.join(map(repr, twice))}")


def optional_names(inputs: Sequence[Input]) -> frozenset[str]:
    return frozenset(given.name for given in inputs if given.default is not None)
