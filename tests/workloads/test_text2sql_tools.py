"""The workflow's tools: a row names its database, a query runs in a child that can be killed, the vote chooses."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from executor.child_pool import ChildPool
from executor.child_process import ToolFailed, ToolFailureCode
from workloads.programs.text2sql import NOT_RUN, Outcome, describe_database, run_sql, vote
from workloads.text2sql.databases import DatabaseUnknown, all_samples, locate

OK = Outcome(ok=True, error="", fingerprint="a", worth=2, rows=1, preview=[[1]])


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of databases with one database, `films`, as the tools find it."""
    with closing(sqlite3.connect(tmp_path / "films.sqlite")) as connection:
        connection.executescript("CREATE TABLE film (id, title); INSERT INTO film VALUES (1, 'A'), (2, 'B'), (3, 'C');")
    monkeypatch.setenv("HALO_TOOL_DATABASES", str(tmp_path))
    return tmp_path


def test_a_name_finds_a_database_of_the_folder_and_nothing_else(films: Path) -> None:
    assert locate("films") == films / "films.sqlite"
    assert describe_database("films").startswith("film(\n  id,  -- 1, 2, 3\n")
    for name in ("none", "../films", str(films / "films.sqlite"), "", ".."):
        with pytest.raises(DatabaseUnknown, match="there is no database"):
            locate(name)


def test_without_a_folder_the_samples_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HALO_TOOL_DATABASES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "film_id INTEGER PRIMARY KEY" in describe_database("film_rental")
    assert [path.name for path in all_samples().iterdir() if path.suffix != ".sqlite"] == []
    with pytest.raises(DatabaseUnknown, match="the samples are city_bikes"):
        locate("none")


def test_what_a_query_does_is_told_not_raised(films: Path) -> None:
    assert run_sql.function(database="films", sql="SELECT id FROM film") == {
        "ok": True,
        "error": "",
        "fingerprint": '[false, [[[1, 1.0, ""]], [[1, 2.0, ""]], [[1, 3.0, ""]]]]',
        "worth": 2,
        "rows": 3,
        "preview": [[1], [2], [3]],
    }
    refused = run_sql.function(database="films", sql="DROP TABLE film")
    assert not refused["ok"]
    assert refused["error"].startswith("sql_")


def test_the_vote_takes_what_most_candidates_return() -> None:
    other = OK.model_copy(update={"fingerprint": "b"})
    candidates = [
        {"sql": sql, "outcome": outcome.model_dump()}
        for sql, outcome in (("broken", NOT_RUN), ("lonely", OK), ("first", other), ("second", other))
    ]
    chosen = vote(candidates)
    assert (chosen.sql, chosen.ok, chosen.votes, chosen.candidates) == ("first", True, 2, 4)


@pytest.fixture
async def pool(films: Path) -> AsyncIterator[ChildPool]:
    async with ChildPool(2, start_timeout_s=120) as pool:
        yield pool


LONG_TEXTS = "d(x) AS (SELECT 'aaaaaaaa' UNION ALL SELECT x || x FROM d WHERE length(x) < 400000)"
LONGEST = "(SELECT max(x) FROM d)"
SEARCH = f"instr({LONGEST}, substr({LONGEST}, 1, 250000) || 'b')"


async def test_in_a_child_what_sqlite_cannot_stop_is_killed(pool: ChildPool) -> None:
    sql = f"WITH RECURSIVE {LONG_TEXTS} SELECT {SEARCH}, {SEARCH}, {SEARCH}, {SEARCH}"
    assert (await pool.run(run_sql.target, query("SELECT 1"), timeout_s=60))["ok"]
    with pytest.raises(ToolFailed) as stopped:
        await pool.run(run_sql.target, query(sql), timeout_s=0.5)
    assert stopped.value.failure.code is ToolFailureCode.TIMEOUT


async def test_queries_run_side_by_side_in_children(pool: ChildPool) -> None:
    sqls = [f"SELECT title FROM film WHERE id = {n % 3 + 1}" for n in range(30)]
    outcomes = await asyncio.gather(*(pool.run(run_sql.target, query(sql), timeout_s=60) for sql in sqls))
    assert [outcome["preview"] for outcome in outcomes] == [[["A"]], [["B"]], [["C"]]] * 10


def query(sql: str) -> dict[str, str]:
    return {"database": "films", "sql": sql}
