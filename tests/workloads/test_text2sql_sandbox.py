"""One query on one file: what it may read it gets, within limits; all else is a typed error, and nothing is changed."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from workloads.text2sql.sandbox import QueryError, QueryLimits, QueryResult, execute_select

SPIDER = Path(__file__).parents[3] / "shared" / "data" / "spider_dev"
SMALL = QueryLimits(time_s=0.3)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "films.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT, rate REAL, cover BLOB);
            INSERT INTO film VALUES (1, 'Alien', 2.5, x'0aff'), (2, 'Brazil', NULL, NULL);
            INSERT INTO film VALUES (3, 'Casablanca', 9e999, x'');
            CREATE VIEW cheap AS SELECT title FROM film WHERE rate < 3;
            CREATE TABLE number (n INTEGER);
            WITH RECURSIVE count_up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count_up WHERE n < 30000)
            INSERT INTO number SELECT n FROM count_up;
        """)
    return path


def test_a_query_gives_its_columns_and_rows(database: Path) -> None:
    result = execute_select(database, "SELECT id, title FROM film WHERE id < 3 ORDER BY id")
    assert result == QueryResult(("id", "title"), ((1, "Alien"), (2, "Brazil")))


def test_a_view_may_be_read(database: Path) -> None:
    assert execute_select(database, "SELECT count(*) FROM cheap").rows == ((1,),)


def test_what_json_cannot_hold_becomes_text(database: Path) -> None:
    result = execute_select(database, "SELECT cover, rate FROM film ORDER BY id")
    assert result.rows == (("x'0aff'", 2.5), (None, None), ("x''", "Inf"))


def test_text_that_is_not_utf8_stays_readable(database: Path) -> None:
    assert execute_select(database, "SELECT CAST(x'61ff62' AS TEXT)").rows == (("a\ufffdb",),)


def test_results_survive_json(database: Path) -> None:
    rows = execute_select(database, "SELECT * FROM film").rows
    assert [tuple(row) for row in json.loads(json.dumps(rows, allow_nan=False))] == list(rows)


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("SELECT titel FROM film", "sql_error", "no such column: titel"),
        ("SELECT title FROM films", "sql_error", "no such table: films"),
        ("SELECT title FORM film", "sql_error", "syntax error"),
        ("SELECT 1; SELECT 2", "sql_error", "one statement"),
        ("SELECT ?", "sql_error", "variables"),
        ("SELECT '\ud800'", "sql_error", "surrogates"),
        ("SELECT 1\0", "sql_error", ""),
        ("", "sql_error", "not a query"),
        ("SELECT name FROM sqlite_master", "sql_refused", "tables of its database"),
        ("SELECT printf('%.*c', 900000000, 'x')", "sql_refused", "printf"),
        ("SELECT hex(zeroblob(1000000000))", "sql_refused", "zeroblob"),
        ("SELECT load_extension('evil')", "sql_refused", "load_extension"),
        ("SELECT * FROM pragma_database_list", "sql_refused", ""),
        ("PRAGMA query_only = 0", "sql_refused", ""),
        ("INSERT INTO film VALUES (9, 'x', 1, 1)", "sql_refused", ""),
        ("DELETE FROM film", "sql_refused", ""),
        ("DROP TABLE film", "sql_refused", ""),
        ("CREATE TEMP TABLE t (a)", "sql_refused", ""),
        ("ATTACH 'other.sqlite' AS other", "sql_refused", ""),
        ("VACUUM INTO 'copy.sqlite'", "sql_refused", ""),
        ("BEGIN IMMEDIATE", "sql_refused", ""),
        ("SELECT " + "1+" * 900 + "1", "sql_error", "too large"),
        ("SELECT " + "1," * 5000 + "1", "sql_error", "too many columns"),
        ("SELECT 1" + " UNION SELECT 1" * 30, "sql_error", "too many terms"),
    ],
)
def test_each_error_is_typed_and_tells_what_sqlite_said(database: Path, sql: str, code: str, says: str) -> None:
    before = digest(database)
    result = execute_select(database, sql)
    assert result.error is not None
    assert result.error.code == code
    assert says in result.error.message
    assert result.rows == ()
    assert digest(database) == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
        "SELECT count(*) FROM number a, number b, number c, number d",
        "SELECT a.n FROM number a, number b, number c ORDER BY a.n * b.n % 97 LIMIT 1",
        "SELECT group_concat(a.n) FROM number a, number b",
        "SELECT count(DISTINCT a.n * b.n) FROM number a, number b WHERE a.n * b.n < 0",
    ],
)
def test_an_endless_query_is_stopped_in_time(database: Path, sql: str) -> None:
    """None of them ends by itself within minutes."""
    result = execute_select(database, sql, limits=SMALL)
    assert result.error == QueryError("sql_timeout", "The query took more than 0.3 s and was stopped.")


def test_rows_are_capped(database: Path) -> None:
    result = execute_select(database, "SELECT n FROM number ORDER BY n")
    assert len(result.rows) == 10_000
    assert result.truncated
    exact = execute_select(database, "SELECT n FROM number ORDER BY n LIMIT 10000")
    assert len(exact.rows) == 10_000
    assert not exact.truncated


def test_bytes_are_capped(database: Path) -> None:
    sql = "SELECT hex(hex(hex(hex(hex('0123456789'))))) || n FROM number"
    result = execute_select(database, sql, limits=QueryLimits(result_bytes=10_000))
    assert result.truncated
    assert 0 < len(json.dumps([result.columns, result.rows])) < 10_500


def test_cells_are_capped(database: Path) -> None:
    sql = "SELECT replace(hex(hex(hex('0123456789'))), '3', '12345678'), 1 FROM film"
    result = execute_select(database, sql, limits=QueryLimits(cell_characters=50))
    assert [len(str(row[0])) for row in result.rows] == [50, 50, 50]
    assert result.truncated


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    missing = execute_select(tmp_path / "none.sqlite", "SELECT 1").error
    assert missing == QueryError("database_missing", "There is no database file named none.sqlite.")
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    broken = execute_select(tmp_path / "text.sqlite", "SELECT 1").error
    assert broken is not None
    assert broken.code == "database_unreadable"


def test_a_file_name_is_only_a_file_name(database: Path) -> None:
    odd = database.rename(database.with_name("a?mode=rwc&x=%20#b.sqlite"))
    assert execute_select(odd, "SELECT count(*) FROM film").rows == ((3,),)


def test_every_gold_query_of_spider_runs() -> None:
    if not SPIDER.exists():
        pytest.skip("the shared data sets are not here")
    rows = [json.loads(line) for line in (SPIDER / "dev.jsonl").read_text().splitlines()]
    errors = [
        (row["query"], result.error)
        for row in rows
        if (result := execute_select(SPIDER / "synthetic_db" / f"{row['db_id']}.sqlite", row["query"])).error
    ]
    assert errors == []
