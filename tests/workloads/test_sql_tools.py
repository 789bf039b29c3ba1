"""Many queries of a workflow at once: the same answers, to the byte, in fewer statements."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from synthetic_world import SyntheticWorld

from executor.tools import ToolRunner
from halo.sdk.find import find_workflow
from planner.interpret import interpret
from planner.ir.plan import ToolSpec
from planner.ir.values import canonical_json
from planner.sql.catalog import Kind
from planner.sql.merge import Merged
from planner.table import Table
from workloads.databases import encyclopedia, films, wholesale
from workloads.programs import article_queries, film_queries, trade_queries
from workloads.programs.sql_tools import answers_of, look_up, look_up_many, merged_statement
from workloads.programs.sqlite_catalog import catalog_of
from workloads.rows.draw_rows import draw_rows
from workloads.rows.sources import SOURCES
from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import QueryResult

QUERIES = {"wholesale": trade_queries, "films": film_queries, "encyclopedia": article_queries}
NAMED = [(database, name) for database, module in QUERIES.items() for name in sorted(vars(module)) if name.isupper()]

NO_EQUALITY = "no column has to equal a parameter"

#: Why a query stays a statement of its own; None where instances of it become one.
STAYS_SINGLE: dict[str, str | None] = {
    "CHEAPEST_SUPPLIERS": None,
    "LOCAL_TRADE": None,
    "OPEN_ORDERS": None,
    "PROFIT": None,
    "BRAND_SHARE": NO_EQUALITY,
    "DISCOUNTS": NO_EQUALITY,
    "PRICING": NO_EQUALITY,
    "SHIP_MODES": NO_EQUALITY,
    "TOP_SUPPLIERS": NO_EQUALITY,
    "BY_COUNTRY": None,
    "CREDITS": None,
    "MOST_VOTED": None,
    "ONE_FILM": None,
    "RENTALS": None,
    "TOP_RATED": None,
    "BY_KEYWORD": NO_EQUALITY,
    "FOREIGN_TITLES": NO_EQUALITY,
    "PEOPLE": NO_EQUALITY,
    "OVERVIEW": None,
    "SAME_SUBJECT": None,
    "CATEGORIES": NO_EQUALITY,
    "LINKS_IN": NO_EQUALITY,
    "LINKS_OUT": NO_EQUALITY,
    "MATCHES": "it has LIMIT",
}


@pytest.fixture(autouse=True)
def databases(scaled_databases: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALO_TOOL_DATABASES", str(scaled_databases))
    return scaled_databases


def calls_of(database: str, name: str, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Calls as rows make them: the query and the values of its places, some of which find nothing."""
    sql, random = vars(QUERIES[database])[name], Random(seed)
    drawn = [_values(database, random) for _ in range(count)]
    used = [{place: value for place, value in values.items() if f":{place}" in sql} for values in drawn]
    return [{"database": database, "sql": sql, "values": values} for values in used]


def _values(database: str, random: Random) -> dict[str, Any]:
    if database == "wholesale":
        year = random.choice(wholesale.YEARS)
        return {
            "region": random.choice((*wholesale.REGIONS, "ATLANTIS")),
            "segment": random.choice(wholesale.SEGMENTS),
            "brand": random.choice((*wholesale.BRANDS[:4], "Brand#99")),
            "first": f"{year}-01-01",
            "last": f"{year}-12-31",
        }
    if database == "films":
        first = random.choice(films.YEARS)
        title = random.choice((f"{films.ADJECTIVES[0]} {films.NOUNS[0]}", "it's not there"))
        keyword = random.choice(("River", "o", "zzz"))
        return {
            "genre": random.choice(films.GENRES),
            "first": first,
            "last": first + 4,
            "title": title,
            "keyword": keyword,
        }
    return {"keyword": random.choice(("Lark", "zzz")), "title": random.choice((*encyclopedia.TITLES[:3], "none"))}


@pytest.mark.parametrize(("database", "name"), NAMED)
def test_calls_together_answer_as_each_does_alone(database: str, name: str) -> None:
    calls = calls_of(database, name, 6)
    assert list(look_up_many(calls)) == [look_up(**call) for call in calls]


@pytest.mark.parametrize(("database", "name"), NAMED)
def test_which_queries_become_one_statement_and_why_the_others_do_not(
    database: str, name: str, databases: Path
) -> None:
    calls = calls_of(database, name, 3)
    found = merged_statement(databases / f"{database}.sqlite", calls[0]["sql"], [call["values"] for call in calls])
    why = STAYS_SINGLE[name]
    assert isinstance(found, Merged) if why is None else why in getattr(found, "reason", "")


def test_calls_of_several_queries_and_databases_keep_their_places() -> None:
    calls = [call for one in NAMED[::4] for call in calls_of(*one, 2)]
    Random(3).shuffle(calls)
    assert list(look_up_many(calls)) == [look_up(**call) for call in calls]


def test_queries_that_fail_say_so_each_for_itself() -> None:
    broken = {"database": "films", "sql": "SELECT absent FROM film WHERE genre = :genre ORDER BY film_id"}
    calls = [{**broken, "values": {"genre": genre}} for genre in ("Drama", "Comedy")]
    assert list(look_up_many(calls)) == [look_up(**call) for call in calls] == ["no result: no such column: absent"] * 2


def test_a_value_is_only_ever_a_value_in_a_list_too() -> None:
    sql = "SELECT film_id, title, :genre AS asked FROM film WHERE genre = :genre ORDER BY film_id"
    genres = ("' OR 1 = 1 --", "Drama'); DROP TABLE film; --", ":genre", 'a"b', "it's", "Drama")
    calls = [{"database": "films", "sql": sql, "values": {"genre": genre}} for genre in genres]
    assert list(look_up_many(calls)) == [look_up(**call) for call in calls]


@pytest.mark.parametrize(
    ("workflow", "counts"), [("trident", (576, 194, 85)), ("fan-out", (768, 146, 74)), ("diamond", (576, 437, 186))]
)
def test_a_job_of_64_rows_runs_fewer_statements_than_it_asks_for(workflow: str, counts: tuple[int, int, int]) -> None:
    """Asked for, different, run: with natural duplicates, and gathered as when all wait at once."""
    run: list[str] = []

    def select(database: Path, sql: str) -> QueryResult:
        run.append(sql)
        return guarded_select(database, sql)

    asked = queries_of(workflow, 64)
    different = list({canonical_json(call): call for call in asked}.values())
    for first in range(0, len(different), look_up.spec.max_batch):
        list(answers_of(different[first : first + look_up.spec.max_batch], select))
    assert (len(asked), len(different), len(run)) == counts


def queries_of(name: str, rows: int) -> list[dict[str, Any]]:
    """What the rows of a job ask of `look_up`."""
    workflow, asked = find_workflow(name), list[dict[str, Any]]()

    def tool(spec: ToolSpec, arguments: dict[str, Any]) -> Any:
        if spec.name != look_up.name:
            return workflow.tools[spec.name].function(**arguments)
        asked.append(arguments)
        return ""

    table = Table.from_rows(draw_rows(SOURCES[name], rows, None, seed=1), workflow.plan.inputs)
    for row in range(rows):
        interpret(workflow.plan, table.row(row), SyntheticWorld(tool))
    return asked


async def test_workers_run_them_together() -> None:
    calls = calls_of("wholesale", "CHEAPEST_SUPPLIERS", 8)
    runner = ToolRunner({look_up.name: look_up})
    try:
        given = await asyncio.gather(*(runner.run(look_up.spec, call) for call in calls))
    finally:
        await runner.close()
    assert list(given) == [look_up(**call) for call in calls]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE plain (id INTEGER PRIMARY KEY, n INT NOT NULL, t VARCHAR(9) UNIQUE, u TEXT NOT NULL, x, b BLOB,
              d DECIMAL(9, 2), UNIQUE (n, u));
            CREATE TABLE strict_one (id INTEGER PRIMARY KEY, n INT, t TEXT, PRIMARY KEY_ANY ANY) STRICT;
            """.replace(", PRIMARY KEY_ANY ANY", ", anything ANY")
        )
        connection.executescript(
            """
            CREATE TABLE folded (name TEXT PRIMARY KEY COLLATE NOCASE, n INTEGER);
            CREATE TABLE pairs (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
            CREATE TABLE loose (a TEXT, b TEXT, PRIMARY KEY (a, b));
            CREATE UNIQUE INDEX some ON loose (a) WHERE b IS NULL;
            CREATE UNIQUE INDEX lowered ON loose (lower(a));
            CREATE VIEW seen AS SELECT * FROM plain;
            """
        )
    return path


def test_only_what_sqlite_promises_of_a_table_is_known(odd: Path) -> None:
    catalog = catalog_of(odd)
    assert set(catalog) == {"plain", "strict_one", "folded", "pairs", "loose"}
    assert catalog["plain"].columns == {
        "id": Kind.WHOLE,
        "n": Kind.NUMBER,
        "t": Kind.TEXT,
        "u": Kind.TEXT,
        "x": Kind.OTHER,
        "b": Kind.OTHER,
        "d": Kind.NUMBER,
    }
    assert set(catalog["plain"].keys) == {frozenset(["id"]), frozenset(["n", "u"])}, "t may be null twice"
    assert catalog["strict_one"].columns["n"] is Kind.WHOLE
    assert catalog["strict_one"].columns["anything"] is Kind.OTHER
    assert (catalog["folded"].columns["name"], catalog["folded"].keys) == (Kind.OTHER, ())
    assert catalog["pairs"].keys == (frozenset(["a", "b"]),)
    assert catalog["loose"].keys == ()
