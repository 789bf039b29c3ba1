"""From a source of different rows to as many as are wanted, some of them the same."""

from collections.abc import Callable
from dataclasses import dataclass

from halo.sdk.errors import HaloError
from planner.ir.values import Json
from workloads.text2sql.sample_databases.words import Draw

Row = dict[str, Json]


class RowsUnavailable(HaloError):
    """There are not so many different rows."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """`size` different rows: `row(number)` is one of them, for each number below `size`."""

    size: int
    row: Callable[[int], Row]


def draw_rows(source: RowSource, count: int, duplicates: float | None, seed: int) -> list[Row]:
    """`count` rows, the same for the same seed.

    `duplicates` is the share of rows that repeat another one: 0.5 makes half as many different rows as rows. None is
    the natural share: what is asked second most often is asked half as often as the first, and so on (Zipf's law with
    exponent 1, over all rows of the source). Raises `RowsUnavailable`.
    """
    draw = Draw(seed)
    by_rank = draw.some(range(source.size), source.size)
    if duplicates is None:
        return [source.row(by_rank[draw.by_rank(source.size)]) for _ in range(count)]
    different = max(1, count - round(count * duplicates))
    if different > source.size:
        most = f"there are {source.size:,} different rows, and {different:,} are wanted"
        raise RowsUnavailable(f"{most}; ask for fewer rows or for more duplicates")
    chosen = by_rank[:different]
    again = [draw.one(chosen) for _ in range(count - different)]
    return [source.row(number) for number in draw.some([*chosen, *again], count)]
