"""Comparing, voting and scoring: what counts as the same answer, and which candidate wins."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.text2sql.equality import fingerprint, results_equal
from workloads.text2sql.sandbox import QueryError, QueryResult, Row
from workloads.text2sql.score import Score, asks_for_order, execution_match
from workloads.text2sql.vote import Vote, vote, worth

FAILED = QueryResult(error=QueryError("sql_error", "no such column: titel"))


def rows(*rows: Row, truncated: bool = False) -> QueryResult:
    return QueryResult(("a",), rows, truncated)


EMPTY, NULLS = rows(), rows((None,))


@pytest.mark.parametrize(
    ("left", "right", "ordered", "equal"),
    [
        (rows((1,), (2,)), rows((1,), (2,)), True, True),
        (rows((1,), (2,)), rows((2,), (1,)), True, False),
        (rows((1,), (2,)), rows((2,), (1,)), False, True),
        (rows((1,), (1,), (2,)), rows((1,), (2,), (2,)), False, False),
        (rows((1, "a")), rows(("a", 1)), False, False),
        (rows((1,)), rows((1.0,)), True, True),
        (rows((0.1 + 0.2,)), rows((0.3,)), True, True),
        (rows((0.1 + 0.2, "x"), (5, "y")), rows((5, "y"), (0.3, "x")), False, True),
        (rows((0.31,)), rows((0.3,)), True, False),
        (rows((1,)), rows(("1",)), True, False),
        (rows((None,)), rows((0,)), True, False),
        (rows((None, 1), (None, "x")), rows((None, "x"), (None, 1)), False, True),
        (rows((1,)), rows((1, 2)), False, False),
        (rows((1,)), rows((1,), (1,)), False, False),
        (rows((1,)), rows((1,), truncated=True), False, False),
        (EMPTY, EMPTY, True, True),
        (FAILED, FAILED, False, False),
        (FAILED, EMPTY, False, False),
    ],
)
def test_when_two_results_are_the_same(left: QueryResult, right: QueryResult, ordered: bool, equal: bool) -> None:
    assert results_equal(left, right, ordered=ordered) is equal
    assert results_equal(right, left, ordered=ordered) is equal


CELLS = st.none() | st.integers(-9, 9) | st.floats(-9, 9).map(lambda x: round(x, 3)) | st.sampled_from(["", "a", "b"])
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=6)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_where_none_was_asked_for(cells: list[Row], random: object) -> None:
    shuffled = list(cells)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert results_equal(rows(*cells), rows(*shuffled), ordered=False)
    assert fingerprint(rows(*cells)) == fingerprint(rows(*shuffled))


@pytest.mark.parametrize(
    ("results", "chosen"),
    [
        ([rows((1,))], Vote(0, 1, 1)),
        ([rows((1,)), rows((2,)), rows((2,))], Vote(1, 2, 3)),
        ([rows((1,)), rows((2,))], Vote(0, 1, 2)),
        ([FAILED, rows((2,))], Vote(1, 1, 2)),
        ([FAILED, FAILED, rows((2,))], Vote(2, 1, 3)),
        ([EMPTY, EMPTY, EMPTY, rows((2,))], Vote(3, 1, 4)),
        ([NULLS, NULLS, rows((2,))], Vote(2, 1, 3)),
        ([FAILED, FAILED, EMPTY], Vote(2, 1, 3)),
        ([FAILED, FAILED], Vote(0, 2, 2)),
        ([rows((2,), (1,)), rows((3,)), rows((1,), (2,))], Vote(0, 2, 3)),
    ],
)
def test_who_wins_the_vote(results: list[QueryResult], chosen: Vote) -> None:
    assert vote(results) == chosen


@settings(deadline=None)
@given(st.lists(st.sampled_from([FAILED, EMPTY, NULLS, rows((1,)), rows((2,))]), min_size=1, max_size=6))
def test_an_error_wins_only_among_errors(results: list[QueryResult]) -> None:
    winner = results[vote(results).index]
    assert worth(winner) == max(worth(result) for result in results)
    assert winner.error is None or all(result.error for result in results)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "films.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE film (id, title); INSERT INTO film VALUES (1, 'A'), (2, 'B'), (3, 'B');")
    return path


@pytest.mark.parametrize(
    ("gold", "predicted", "matched", "verdict"),
    [
        ("SELECT title FROM film", "SELECT f.title AS name FROM film AS f ORDER BY id DESC", True, "match"),
        ("SELECT title FROM film ORDER BY id", "SELECT title FROM film ORDER BY id DESC", False, "different"),
        ("SELECT title FROM film", "SELECT DISTINCT title FROM film", False, "different"),
        ("SELECT avg(id) FROM film", "SELECT sum(id) * 1.0 / count(*) FROM film", True, "match"),
        ("SELECT title FROM film", "SELECT titel FROM film", False, "failed"),
        ("SELECT title FROM film", "DELETE FROM film", False, "failed"),
        ("SELECT titel FROM film", "SELECT title FROM film", False, "gold_failed"),
    ],
)
def test_execution_match(database: Path, gold: str, predicted: str, matched: bool, verdict: str) -> None:
    score = execution_match(database, gold, predicted)
    assert (score.matched, score.verdict) == (matched, verdict)


def test_a_different_result_says_how(database: Path) -> None:
    score = execution_match(database, "SELECT title FROM film", "SELECT DISTINCT title FROM film")
    assert score == Score(False, "different", "2 rows returned, 3 in the gold result")


def test_only_the_outermost_order_counts() -> None:
    assert asks_for_order("SELECT a FROM t ORDER BY a LIMIT 1")
    assert asks_for_order("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1")
    assert not asks_for_order("SELECT a FROM (SELECT a FROM t ORDER BY a)")
    assert not asks_for_order("not SQL at all (")
