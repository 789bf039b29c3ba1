"""Many instances of one read as one statement: the same rows for each, in the same order, or a reason why not."""

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import sqlglot
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from parameterised_reads import CATALOG, SCHEMA, Read, reads
from sqlglot import exp

from planner.ir.plan import ToolSpec
from planner.sql.catalog import Catalog, Kind, Table
from planner.sql.forecast import least_statements
from planner.sql.merge import Merged, NotMerged, merge
from planner.sql.statement import Dialect

LAWS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def merged(sql: str, *values: dict[str, Any], catalog: Catalog = CATALOG, dialect: Dialect = Dialect.SQLITE) -> Merged:
    found = merge(sql, values, dialect, catalog)
    assert isinstance(found, Merged), found
    return found


def reason(sql: str, *values: dict[str, Any], catalog: Catalog = CATALOG, dialect: Dialect = Dialect.SQLITE) -> str:
    given_values = values or (
        {"genre": "Drama", "year": 1999, "part": "a"},
        {"genre": "Comedy", "year": 5, "part": "b"},
    )
    found = merge(sql, given_values, dialect, catalog)
    assert isinstance(found, NotMerged), found
    return found.reason


def test_rows_are_looked_for_once_and_told_apart_by_their_instance() -> None:
    sql = "SELECT title FROM film WHERE genre = :genre ORDER BY film_id"
    assert merged(sql, {"genre": "Drama"}, {"genre": "it's"}).sql == (
        "WITH halo_instances(halo_instance, halo_value_0) AS (VALUES (0, 'Drama'), (1, 'it''s')) "
        "SELECT title, halo_instances.halo_instance AS halo_instance FROM film CROSS JOIN halo_instances "
        "WHERE genre = halo_instances.halo_value_0 "
        "AND genre IN (SELECT halo_instances.halo_value_0 FROM halo_instances) "
        "ORDER BY halo_instances.halo_instance, film_id"
    )


def test_groups_are_those_of_an_instance_and_postgres_is_told_what_belongs_to_it() -> None:
    sql = "SELECT genre, count(*) AS n FROM film WHERE year = :year GROUP BY genre ORDER BY n DESC, genre"
    assert merged(sql, {"year": 1}, dialect=Dialect.POSTGRES).sql == (
        "WITH halo_instances(halo_instance, halo_value_0) AS (VALUES (0, 1)) "
        "SELECT genre, COUNT(*) AS n, halo_instances.halo_instance AS halo_instance "
        "FROM halo_instances CROSS JOIN film WHERE year = halo_instances.halo_value_0 "
        "GROUP BY halo_instances.halo_instance, halo_instances.halo_value_0, genre "
        "ORDER BY halo_instances.halo_instance, n DESC, genre"
    )


def test_an_aggregate_over_nothing_is_left_to_a_statement_of_its_own() -> None:
    found = merged("SELECT count(*) AS n FROM film WHERE genre = :genre", {"genre": "a"}, {"genre": "b"})
    assert found.split([(7, 1)]) == [None, [(7,)]]


def test_an_instance_without_rows_has_none() -> None:
    sql = "SELECT title FROM film WHERE genre = :genre ORDER BY film_id"
    assert merged(sql, {"genre": "a"}, {"genre": "b"}).split([("x", 1), ("y", 1)]) == [[], [("x",), ("y",)]]


BY_ID = "WHERE genre = :genre ORDER BY film_id"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT title FROM film WHERE genre = :genre", "no ORDER BY: add film.title"),
        ("SELECT title FROM film WHERE genre = :genre ORDER BY votes", "leaves ties: add film.title"),
        (f"SELECT title FROM film {BY_ID} LIMIT 3", "LIMIT"),
        (f"SELECT title FROM film {BY_ID} LIMIT 3 OFFSET 1", "LIMIT"),
        (f"SELECT * FROM film {BY_ID}", "selects *"),
        (f"SELECT lower(title) FROM film {BY_ID}", "has no name; give it one with AS"),
        (f"SELECT film_id, random() AS r FROM film {BY_ID}", "RAND"),
        (f"SELECT film_id, date('now') AS d FROM film {BY_ID}", "calls date"),
        (f"SELECT film_id, date(title, :part) AS d FROM film {BY_ID}", "calls date"),
        (f"SELECT film_id, strftime('%Y', title) AS d FROM film {BY_ID}", "TIMETOSTR"),
        (f"SELECT film_id, nullif(title, :part) AS d FROM film {BY_ID}", "NULLIF"),
        (f"SELECT film_id, date(:part) AS d FROM film {BY_ID}", "date"),
        (f"SELECT film_id, rank() OVER (ORDER BY votes) AS r FROM film {BY_ID}", "WINDOW"),
        (f"SELECT (SELECT max(fee) FROM credit) AS m FROM film {BY_ID}", "SUBQUERY"),
        ("SELECT title FROM film WHERE film_id IN (SELECT film_id FROM credit WHERE job = :part)", "IN without a list"),
        ("SELECT title FROM (SELECT title FROM film WHERE genre = :genre) ORDER BY title", "more than plain tables"),
        ("WITH f AS (SELECT * FROM film) SELECT title FROM f WHERE genre = :genre ORDER BY 1", "WITH"),
        ("SELECT title FROM film WHERE genre = :genre UNION SELECT 'x'", "a set operation"),
        ("DELETE FROM film WHERE genre = :genre", "no SELECT"),
        ("SELECT title FROM film; SELECT 1", "not one statement"),
        ("SELECT FROM WHERE", "cannot be read"),
        ("SELECT 1 AS one", "reads no table"),
        (f"SELECT title FROM nowhere {BY_ID}", "the table nowhere is not known"),
        ("SELECT title, rowid AS r FROM film WHERE genre = :genre ORDER BY rowid", "rowid"),
        ("SELECT a.title FROM film AS a JOIN film AS a WHERE a.genre = :genre", "two tables go by the name a"),
        ("SELECT title FROM film RIGHT JOIN credit USING (film_id) WHERE genre = :genre ORDER BY job", "RIGHT JOIN"),
        ("SELECT title FROM film NATURAL JOIN credit WHERE genre = :genre ORDER BY job", "NATURAL"),
        ("SELECT title FROM film JOIN credit ON fee = :year WHERE genre = :genre ORDER BY title", "stands in ON"),
        ("SELECT title FROM film WHERE genre LIKE :part ORDER BY film_id", "no column has to equal a parameter"),
        ("SELECT title FROM film WHERE genre = :genre OR year = :year ORDER BY film_id", "no column has to equal"),
        ("SELECT title FROM film WHERE genre = :genre ORDER BY :year, film_id", "what to order or group by"),
        ("SELECT title FROM film WHERE year = :genre ORDER BY film_id", ":genre is text, and is compared with year"),
        ("SELECT title FROM film WHERE genre = :year ORDER BY film_id", ":year is a number, and is compared"),
        ("SELECT title FROM film WHERE genre = :gone ORDER BY film_id", "there is no value for :gone"),
        ("SELECT title FROM film WHERE genre = ? ORDER BY film_id", "its places have no names"),
        ("SELECT film_id, CASE :year WHEN year THEN 1 END AS c FROM film " + BY_ID, "compared by CASE"),
        ("SELECT title AS t, count(*) AS n FROM film WHERE year = :year GROUP BY genre ORDER BY genre", "picked out"),
        ("SELECT genre, count(*) AS n FROM film WHERE year = :year", "selects a column beside"),
        ("SELECT genre, count(*) AS n FROM film WHERE year = :year GROUP BY genre ORDER BY n", "add film.genre"),
        ("SELECT lower(genre) AS g, count(*) AS n FROM film WHERE year = :year GROUP BY g ORDER BY g", "groups by"),
        ("SELECT group_concat(title) AS t FROM film WHERE year = :year", "GROUPCONCAT"),
        ("SELECT sum(1.5 * votes) AS s FROM film WHERE year = :year", "SUM of fractions"),
        ("SELECT max(votes + 1) AS s FROM film WHERE year = :year", "MAX of what may be equal"),
        ("SELECT count(*) FILTER (WHERE votes > 1) AS s FROM film WHERE year = :year", "FILTER"),
        ("SELECT DISTINCT genre FROM film WHERE year = :year ORDER BY votes, genre", "what it does not select"),
        ("SELECT title, :genre AS halo_x FROM film WHERE year = :year ORDER BY film_id", "begins with halo_"),
        ("SELECT sum(votes) AS votes FROM film WHERE year = :year GROUP BY film_id HAVING votes > 1", "may be a"),
    ],
)  # fmt: skip
def test_what_is_not_provably_the_same_stays_single(sql: str, why: str) -> None:
    assert why in reason(sql)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0, "a\0b", "\ud800", True, 2**63, ["a"]])
def test_values_that_a_list_would_not_hold_as_they_are(value: Any) -> None:
    assert ":part" in reason("SELECT title, :part AS p FROM film WHERE year = :year ORDER BY 1, film_id",
                             {"year": 1, "part": value})  # fmt: skip


def test_in_postgres_values_are_of_one_type_and_dates_are_said_to_be_dates() -> None:
    catalog = {"film": replace(CATALOG["film"], columns={**CATALOG["film"].columns, "shown": Kind.DAY})}
    sql = "SELECT film_id FROM film WHERE shown = :day ORDER BY film_id"
    found = merged(sql, {"day": "1999-01-02"}, catalog=catalog, dialect=Dialect.POSTGRES)
    assert "VALUES (0, CAST('1999-01-02' AS DATE))" in found.sql
    sql = "SELECT film_id FROM film WHERE year = :year ORDER BY film_id"
    assert "several types" in reason(sql, {"year": 1}, {"year": 1.5}, dialect=Dialect.POSTGRES)
    assert "None" not in merged(sql, {"year": 1}, {"year": None}).sql


@pytest.mark.parametrize("key", [(), (frozenset(["title"]),)])
def test_one_row_for_each_instance_needs_no_order(key: tuple[frozenset[str], ...]) -> None:
    table = Table({"title": Kind.TEXT, "text": Kind.OTHER}, key)
    found = merge("SELECT text FROM page WHERE title = :t", [{"t": "a"}], Dialect.SQLITE, {"page": table})
    assert isinstance(found, Merged) == bool(key)


def test_what_equals_what_is_ordered_by_is_ordered_too() -> None:
    sql = """SELECT film.title, credit.job, credit.fee FROM film JOIN credit ON credit.film_id = film.film_id
             WHERE film.genre = :genre ORDER BY film.film_id, credit.job"""
    assert merged(sql, {"genre": "Drama"})
    assert "add credit.fee, film.title" in reason(sql.replace("JOIN", "LEFT JOIN").replace("film.film_id, c", "c"))


@pytest.mark.parametrize(("max_batch", "calls", "least"), [(1, 7, 7), (64, 0, 0), (64, 64, 1), (64, 65, 2)])
def test_how_many_statements_there_are_at_least(max_batch: int, calls: int, least: int) -> None:
    assert least_statements(ToolSpec("look_up", max_batch=max_batch), calls) == least


@settings(LAWS, max_examples=200)
@given(reads(nulls=True))
def test_in_sqlite_each_instance_gets_what_it_gets_alone(read: Read) -> None:
    found = merge(read.sql, read.instances, Dialect.SQLITE, CATALOG)
    event(found.reason[:40] if isinstance(found, NotMerged) else "merged")
    if isinstance(found, NotMerged):
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO film VALUES (?, ?, ?, ?, ?)", read.films)
        connection.executemany("INSERT INTO credit VALUES (?, ?, ?, ?)", read.credits)
        whole = connection.execute(found.sql)
        names = [column[0] for column in whole.description]
        for instance, rows in zip(read.instances, found.split(whole.fetchall()), strict=True):
            alone = connection.execute(read.sql, instance)
            assert [column[0] for column in alone.description] == names[:-1]
            assert_same(found, rows, alone.fetchall())


def assert_same(found: Merged, rows: list[tuple[Any, ...]] | None, alone: list[tuple[Any, ...]]) -> None:
    if rows is None:
        assert found.answers_once
    else:
        assert repr(rows) == repr(alone), "types too: 1 is not 1.0"


@pytest.fixture(scope="module")
def postgres() -> Iterator[tuple[asyncio.Runner, asyncpg.Connection]]:
    """A connection to a database of its own, with the two tables."""
    server = os.environ.get("HALO_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("HALO_TEST_POSTGRES_URL is not set: run under scripts/test_services.py")
    schema = f"reads_{uuid.uuid4().hex}"
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(server.replace("+asyncpg", "")))
        runner.run(connection.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}"))
        runner.run(connection.execute(SCHEMA.replace(") STRICT", ")")))
        yield runner, connection
        runner.run(connection.execute(f"DROP SCHEMA {schema} CASCADE"))
        runner.run(connection.close())


@pytest.mark.postgres
@settings(LAWS, max_examples=200)
@given(read=reads(nulls=False))
def test_in_postgres_each_instance_gets_what_it_gets_alone(
    postgres: tuple[asyncio.Runner, asyncpg.Connection], read: Read
) -> None:
    runner, connection = postgres
    found = merge(read.sql, read.instances, Dialect.POSTGRES, CATALOG)
    if isinstance(found, Merged):
        runner.run(_compare_in_postgres(connection, read, found))


async def _compare_in_postgres(connection: asyncpg.Connection, read: Read, found: Merged) -> None:
    await connection.execute("TRUNCATE film, credit")
    await connection.executemany("INSERT INTO film VALUES ($1, $2, $3, $4, $5)", read.films)
    await connection.executemany("INSERT INTO credit VALUES ($1, $2, $3, $4)", read.credits)
    try:
        alone = [
            [tuple(row) for row in await connection.fetch(_filled(read.sql, instance))] for instance in read.instances
        ]
    except asyncpg.PostgresError:
        return  # it groups or orders as only SQLite allows
    whole = [tuple(row) for row in await connection.fetch(found.sql)]
    for rows, wanted in zip(found.split(whole), alone, strict=True):
        assert_same(found, rows, wanted)


def _filled(sql: str, values: dict[str, Any]) -> str:
    return exp.replace_placeholders(sqlglot.parse_one(sql, read="postgres"), **values).sql(dialect="postgres")


@given(st.text(max_size=60))
def test_any_text_is_merged_or_refused_with_a_reason(text: str) -> None:
    assert isinstance(merge(text, [{}], Dialect.SQLITE, CATALOG), Merged | NotMerged)
