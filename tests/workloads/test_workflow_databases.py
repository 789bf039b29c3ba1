"""The databases of the workflows: the same each time, of any size; every query of a workflow finds something there."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from workloads.databases import encyclopedia, films, wholesale
from workloads.databases.make import SCALED_DATABASES, make_scaled_databases
from workloads.programs import article_queries, film_queries, trade_queries
from workloads.programs.sql_tools import look_up
from workloads.text2sql.databases import locate

SCOPE = trade_queries.read_request("region=MIDDLE_EAST segment=BUILDING year=1995 brand=Brand#12").model_dump()
ASKED = (
    ("films", film_queries, {"keyword": "a", "genre": "Drama", "first": 1990, "last": 2010}),
    ("encyclopedia", article_queries, {"keyword": "Lark", "title": "Harbour of Larkfield"}),
    ("wholesale", trade_queries, SCOPE),
)
QUERIES = [
    pytest.param(database, sql, values, id=name)
    for database, module, values in ASKED
    for name, sql in vars(module).items()
    if name.isupper()
]


@pytest.mark.parametrize(("database", "sql", "values"), QUERIES)
def test_every_query_finds_something(
    database: str,
    sql: str,
    values: dict[str, str | int | float],
    scaled_databases: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HALO_TOOL_DATABASES", str(scaled_databases))
    found = look_up(database, sql, {"title": some_film(scaled_databases), **values})
    assert "no result" not in found
    assert not found.endswith("rows: 0")


def some_film(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "films.sqlite")) as connection:
        return str(connection.execute("SELECT title FROM film WHERE film_id = 1").fetchone()[0])


def test_a_value_is_only_ever_a_value(scaled_databases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALO_TOOL_DATABASES", str(scaled_databases))
    for title in ("' OR 1 = 1 --", "x'; DROP TABLE film; --", ":title", "%", '"title"'):
        assert look_up("films", "SELECT title FROM film WHERE title = :title", {"title": title}) == "title\nrows: 0"
    assert look_up("films", "SELECT :title AS said", {"title": "it's"}) == "said\nit's\nrows: 1"
    assert look_up("films", "DROP TABLE film", {}).startswith("no result: ")


def test_the_databases_are_the_same_each_time(tmp_path: Path, scaled_databases: Path) -> None:
    for name, path in make_scaled_databases(tmp_path).items():
        assert path.read_bytes() == (scaled_databases / f"{name}.sqlite").read_bytes()


def test_they_grow_with_the_scale_and_keep_their_keys(tmp_path: Path, scaled_databases: Path) -> None:
    for name, path in make_scaled_databases(tmp_path, scale=3).items():
        assert path.stat().st_size > 1.5 * (scaled_databases / f"{name}.sqlite").stat().st_size
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_without_a_folder_they_are_made_when_first_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HALO_TOOL_DATABASES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in SCALED_DATABASES:
        assert locate(name).is_file()


def test_what_rows_name_is_in_the_databases(scaled_databases: Path) -> None:
    named = {
        ("encyclopedia", "SELECT title FROM article"): encyclopedia.TITLES,
        ("films", "SELECT genre FROM film"): films.GENRES,
        ("wholesale", "SELECT brand FROM part"): wholesale.BRANDS,
        ("wholesale", "SELECT name FROM region"): wholesale.REGIONS,
    }
    for (database, sql), names in named.items():
        with closing(sqlite3.connect(scaled_databases / f"{database}.sqlite")) as connection:
            assert {found for (found,) in connection.execute(sql)} == {*names}
