import math

import pytest

from planner.errors import RowsInvalid
from planner.ir.plan import Fallback, Input
from planner.table import Table, read_rows

QUESTION = Input("question", {"type": "string"})
SHOTS = Input("shots", {"type": "integer", "minimum": 1}, Fallback(3))


def test_rows_become_columns_and_defaults_are_filled_in() -> None:
    table = Table.from_rows([{"question": "a", "shots": 1}, {"question": "b"}], (QUESTION, SHOTS))
    assert table == Table({"question": ["a", "b"], "shots": [1, 3]}, 2)
    assert table.row(1) == {"question": "b", "shots": 3}


def test_columns_that_are_no_input_are_left_out_with_a_note() -> None:
    table = Table.from_rows([{"question": "a", "gold": 1}, {"question": "b", "note": 2}], (QUESTION,))
    assert table.columns == {"question": ["a", "b"]}
    assert table.notes == ("columns that are no input were ignored: 'gold', 'note'",)


def test_every_problem_of_every_row_is_told_at_once() -> None:
    rows = [{"shots": 0}, {"question": "fine"}, {"question": math.nan}, [1]]
    with pytest.raises(RowsInvalid) as caught:
        Table.from_rows(rows, (QUESTION, SHOTS))  # type: ignore[arg-type]
    assert [problem.where for problem in caught.value.problems] == [
        "row 1, column 'question'",
        "row 1, column 'shots'",
        "row 3, column 'question'",
        "row 4",
    ]
    assert "is missing; give it a value, or give the input a default" in str(caught.value)


def test_bad_rows_are_left_out_and_the_others_keep_their_number() -> None:
    read = read_rows([{"question": "a"}, {}, {"question": "c"}], (QUESTION,))
    assert read.table.columns == {"question": ["a", "c"]}
    assert list(read.kept) == [0, 2]
    assert [bad.index for bad in read.bad] == [1]


def test_what_cannot_be_written_as_utf8_json_is_a_problem() -> None:
    anything = (Input("x"),)
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    cells = [{"x": "\ud800"}, {"x": {1, 2}}, {"x": nested}, {"x": {"deep": [1, "ü"]}}]
    read = read_rows(cells, anything)
    assert [bad.index for bad in read.bad] == [0, 1, 2]
    assert read.table.columns["x"] == [{"deep": [1, "ü"]}]


def test_no_rows_are_a_table_too() -> None:
    assert Table.from_rows([], (QUESTION,)) == Table({"question": []}, 0)
