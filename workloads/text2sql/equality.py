"""When two results are the same answer.

Rows are compared as a multiset, or in order where order was asked for (Spider's rule, Yu et al. 2018). Columns are
compared by place and their names do not count (BIRD's rule, Li et al. 2023; Spider's test suite would also accept
another order of columns). Unlike both, numbers may differ by one part in a million, because sums of floats depend on
the order of the rows.
"""

import json
import math
from itertools import starmap

from workloads.text2sql.sandbox import Cell, QueryResult, Row

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9


def results_equal(left: QueryResult, right: QueryResult, *, ordered: bool) -> bool:
    """Whether both ended without an error and gave the same rows. What was cut is compared as far as it goes."""
    if left.error or right.error or len(left.rows) != len(right.rows) or left.truncated != right.truncated:
        return False
    if left.rows == right.rows:
        return True
    if ordered:
        return all(starmap(_row_equal, zip(left.rows, right.rows, strict=True)))
    return all(starmap(_row_equal, zip(sorted(left.rows, key=_row_key), sorted(right.rows, key=_row_key), strict=True)))


def fingerprint(result: QueryResult) -> str:
    """A text equal for equal results, in whatever order their rows; for grouping. Numbers are rounded to 6 digits."""
    return json.dumps([result.truncated, sorted(_row_key(row) for row in result.rows)])


def _row_equal(left: Row, right: Row) -> bool:
    return len(left) == len(right) and all(starmap(_cell_equal, zip(left, right, strict=True)))


def _cell_equal(left: Cell, right: Cell) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return left == right


def _row_key(row: Row) -> tuple[tuple[int, float, str], ...]:
    return tuple(_cell_key(cell) for cell in row)


def _cell_key(cell: Cell) -> tuple[int, float, str]:
    """NULL before numbers before texts; nearly equal numbers get one key, save at the edge of a rounding step."""
    if cell is None:
        return 0, 0.0, ""
    if isinstance(cell, str):
        return 2, 0.0, cell
    return 1, float(f"{cell:.6g}") + 0.0, ""  # adding zero makes -0.0 the same as 0.0
