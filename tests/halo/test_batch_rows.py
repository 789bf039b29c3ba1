"""Files of rows: what is a row, what is none, and what is said of it."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo.batch.errors import ColumnsUnknown, RowsUnreadable
from halo.batch.given_rows import MAX_ROW_BYTES, BadLine, GivenRow
from halo.batch.intake import rows_digest, take_in
from halo.batch.rows import read_file
from planner.ir.plan import Fallback, Input
from planner.table import Table

QUESTION = Input("question", {"type": "string"})
TIMES = Input("times", {"type": "integer"}, Fallback(3))
INPUTS = (QUESTION, TIMES)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(table: Table) -> list[dict[str, object]]:
    return [table.row(index) for index in range(table.rows)]


def codes(path: Path) -> list[tuple[int | None, str]]:
    return [(row.line, "row" if isinstance(row, GivenRow) else row.code) for row in read_file(path, INPUTS)]


# -- JSON Lines


def test_every_kind_of_malformed_line_is_told_in_its_place(tmp_path: Path) -> None:
    lines = [
        b'{"question": "a"}',
        b"{broken",
        b'{"question": "\xff"}',
        b"[1, 2]",
        b'{"question": "' + b"x" * MAX_ROW_BYTES + b'"}',
        b'{"times": NaN}',
        b'{"times": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"",
        b'   {"question": "last"}   ',
    ]
    path = written(tmp_path, "rows.jsonl", b"\n".join(lines))
    assert codes(path) == [
        (1, "row"),
        (2, "invalid_json"),
        (3, "invalid_utf8"),
        (4, "not_an_object"),
        (5, "line_too_long"),
        (6, "invalid_json"),
        (7, "invalid_json"),
        (8, "invalid_json"),
        (10, "row"),
    ]


def test_a_line_of_many_megabytes_is_passed_over(tmp_path: Path) -> None:
    flood = b'{"question": "' + b"x" * (5 * 1024 * 1024) + b'"}'
    path = written(tmp_path, "rows.jsonl", flood + b'\n{"question": "b"}\n')
    bad, row = read_file(path, INPUTS)
    assert isinstance(bad, BadLine)
    assert bad.message == "the line is longer than 256 KiB; make the row smaller"
    assert row == GivenRow(2, {"question": "b"})


def test_a_line_just_at_the_bound_is_a_row(tmp_path: Path) -> None:
    frame = len(b'{"question": ""}')
    line = b'{"question": "' + b"x" * (MAX_ROW_BYTES - frame) + b'"}'
    assert codes(written(tmp_path, "rows.jsonl", line + b"\r\n" + line + b"\n")) == [(1, "row"), (2, "row")]


def test_windows_files_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", b'\xef\xbb\xbf{"question": "a"}\r\n\r\n{"question": "b"}\r\n')
    assert codes(path) == [(1, "row"), (3, "row")]


@given(st.lists(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=20), max_size=3)))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row.columns for row in read_file(path, ()) if isinstance(row, GivenRow)] == rows


# -- CSV


def test_csv_cells_are_read_as_the_inputs_want_them(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", 'question,times\n12,7\n"a, b",\n"two\nlines",x\n')
    assert list(read_file(path, INPUTS)) == [
        GivenRow(2, {"question": "12", "times": 7}),
        GivenRow(3, {"question": "a, b"}),
        GivenRow(4, {"question": "two\nlines", "times": "x"}),
    ]


def test_csv_reads_true_and_lists_where_they_are_wanted(tmp_path: Path) -> None:
    inputs = (Input("flag", {"type": "boolean"}), Input("names", {"type": "array"}), Input("any", None))
    path = written(tmp_path, "rows.csv", 'flag,names,any\nTRUE,"[""a"", ""b""]",1\n')
    assert list(read_file(path, inputs)) == [GivenRow(2, {"flag": True, "names": ["a", "b"], "any": "1"})]


def test_bad_csv_records_leave_the_others_alone(tmp_path: Path) -> None:
    content = b'question,times\na,1\nb\nc,1,2\n"d"x,1\ne\xff,1\n\n"' + b"f" * (MAX_ROW_BYTES + 1) + b'",1\ng,1\n'
    assert codes(written(tmp_path, "rows.csv", content)) == [
        (2, "row"),
        (3, "wrong_cell_count"),
        (4, "wrong_cell_count"),
        (5, "invalid_csv"),
        (6, "invalid_utf8"),
        (8, "line_too_long"),
        (9, "row"),
    ]


def test_csv_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsUnreadable, match="names a column more than once: 'question'"):
        list(read_file(written(tmp_path, "rows.csv", "question,question\na,b\n"), INPUTS))


def test_an_open_quote_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", 'question,times\n"open,1\n' + "b,1\n" * 3)
    assert codes(path) == [(2, "invalid_csv")]


# -- Parquet


def test_parquet_rows_have_their_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {"question": ["a", "b"], "times": [1, None], "day": [date(2026, 11, 23), None]}
    pq.write_table(pa.table(columns), path)
    assert list(read_file(path, INPUTS)) == [
        GivenRow(None, {"question": "a", "times": 1, "day": "2026-11-23"}),
        GivenRow(None, {"question": "b", "day": None}),
    ]


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsUnreadable, match="is not a Parquet file that can be read"):
        list(read_file(written(tmp_path, "rows.parquet", "question\n"), INPUTS))


def test_parquet_times_and_decimals_inside_lists_and_structs_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    nested = [{"days": [date(2026, 11, 23)], "price": Decimal("1.50")}]
    pq.write_table(pa.table({"question": ["a"], "nested": nested}), path)
    (row,) = read_file(path, INPUTS)
    assert isinstance(row, GivenRow)
    assert row.columns["nested"] == {"days": ["2026-11-23"], "price": "1.50"}


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.duration("ns")])
def test_parquet_times_finer_than_python_has_them_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": pa.array([1_577_836_800_000_000_001], type=kind)}), path)
    with pytest.raises(RowsUnreadable, match="can be read: Nanosecond"):
        list(read_file(path, INPUTS))


def test_a_column_that_parquet_names_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["question", "question"]), path)
    with pytest.raises(RowsUnreadable, match="names a column more than once: 'question'"):
        list(read_file(path, INPUTS))


# -- what becomes of the rows


def test_rows_that_do_not_fit_are_told_with_their_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "rows.jsonl",
        '{"question": "a"}\n{oops\n\n{"question": 5, "times": "x"}\n{"times": 1}\n{"question": "b", "times": 1}\n',
    )
    table, intake = take_in(path, INPUTS)
    assert rows_of(table) == [{"question": "a", "times": 3}, {"question": "b", "times": 1}]
    assert intake.rows == 5
    assert [(error.row, error.line, error.code) for error in intake.rejected] == [
        (1, 2, "invalid_json"),
        (2, 4, "invalid_row"),
        (3, 5, "invalid_row"),
    ]
    assert intake.rejected[1].message.startswith("column 'question': does not fit the schema at $: 5 is not of type")
    assert "column 'times'" in intake.rejected[1].message
    assert intake.rejected[2].message == "column 'question': is missing; give it a value, or give the input a default"


def test_a_column_missing_from_every_row_is_one_error_that_names_the_close_one(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", '{"qestion": "a"}\n' * 1000)
    with pytest.raises(ColumnsUnknown) as caught:
        take_in(path, INPUTS)
    assert str(caught.value) == (
        f"no row of {path} has these inputs:\n  'question'; did you mean 'qestion'?\nthe columns are: 'qestion'"
    )


def test_columns_that_are_no_input_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", "question,tmes,other\na,5,x\n")
    _, intake = take_in(path, INPUTS)
    assert intake.notes == (
        "column 'tmes' is no input and was ignored; did you mean 'times'?",
        "column 'other' is no input and was ignored",
    )


@pytest.mark.parametrize("content", ["", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(RowsUnreadable, match=r"(is empty: its first line|has no rows)"):
        take_in(written(tmp_path, name, content), INPUTS)


def test_csv_with_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(RowsUnreadable, match="has no rows"):
        take_in(written(tmp_path, "rows.csv", "question\n"), INPUTS)


@pytest.mark.parametrize(
    ("name", "told"),
    [("rows.xlsx", "is of no kind that holds rows"), ("gone.jsonl", "does not exist"), ("folder.jsonl", "is a folder")],
)
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(RowsUnreadable, match=told):
        take_in(tmp_path / name, INPUTS)


def test_rows_from_python_need_no_file() -> None:
    table, intake = take_in([{"question": "a"}, {"question": object()}, {"question": "c", "times": 5}], INPUTS)
    assert rows_of(table) == [{"question": "a", "times": 3}, {"question": "c", "times": 5}]
    assert [(error.row, error.line, error.code) for error in intake.rejected] == [(1, None, "invalid_row")]


def test_equal_rows_have_equal_digests() -> None:
    assert rows_digest([{"a": 1, "b": 2}]) == rows_digest([{"b": 2, "a": 1}])
    assert rows_digest([{"a": 1}]) != rows_digest([{"a": 1}, {"a": 1}])


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", '{"question": "a"}\n{bad\n{"question": "c"}\n')
    table, intake = take_in(path, INPUTS, limit=2)
    assert (table.rows, intake.rows, len(intake.rejected)) == (1, 2, 1)
