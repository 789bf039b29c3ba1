"""Random parameterised reads of two small tables, values for them, and what is in the tables.

Most are of a shape that can be merged; ties, duplicates, nulls and values that find nothing are common.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from planner.sql.catalog import Catalog, Kind, Table

#: For SQLite; without STRICT for PostgreSQL.
SCHEMA = """
CREATE TABLE film (
  film_id INTEGER PRIMARY KEY, title TEXT NOT NULL, genre TEXT, year INTEGER, votes INTEGER NOT NULL
) STRICT;
CREATE TABLE credit (
  film_id INTEGER NOT NULL, job TEXT NOT NULL, person INTEGER, fee INTEGER NOT NULL, PRIMARY KEY (film_id, job)
) STRICT;
"""
CATALOG: Catalog = {
    "film": Table(
        {
            "film_id": Kind.WHOLE,
            "title": Kind.TEXT,
            "genre": Kind.TEXT,
            "year": Kind.WHOLE,
            "votes": Kind.WHOLE,
        },
        (frozenset(["film_id"]),),
    ),
    "credit": Table(
        {"film_id": Kind.WHOLE, "job": Kind.TEXT, "person": Kind.WHOLE, "fee": Kind.WHOLE},
        (frozenset(["film_id", "job"]),),
    ),
}

_TEXTS = st.sampled_from(["Drama", "drama", "Comedy", "", "it's", "%", "5", "\\", 'a"b', ":genre"])
_NUMBERS = st.integers(-2, 4)
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Read:
    """`films` and `credits` are the rows of the two tables."""

    sql: str
    instances: list[dict[str, Any]]
    films: list[tuple[Any, ...]]
    credits: list[tuple[Any, ...]]


@st.composite
def reads(draw: Draw, nulls: bool) -> Read:
    """`nulls`: whether values may be null, which PostgreSQL's instances may not be."""
    joined = draw(st.sampled_from(["", "", " JOIN credit USING (film_id)", " LEFT JOIN credit USING (film_id)"]))
    sql = f"{_selected(draw, bool(joined))} "
    text = st.none() | _TEXTS if nulls else _TEXTS
    number = st.none() | _NUMBERS if nulls else _NUMBERS
    instance = st.fixed_dictionaries({"genre": text, "year": number, "low": number, "high": number, "part": text})
    return Read(
        sql.replace("{from}", f"FROM film{joined} WHERE {_condition(draw, bool(joined))}"),
        draw(st.lists(instance, min_size=1, max_size=5)),
        _films(draw),
        _credits(draw),
    )


def _selected(draw: Draw, joined: bool) -> str:
    kind = draw(st.sampled_from(["rows", "rows", "groups", "groups", "all", "distinct"]))
    if kind == "all":
        return f"SELECT {draw(_AGGREGATES)} AS one, {draw(_AGGREGATES)} AS other {{from}}"
    columns = ["title", "genre", "year", "votes", "film.film_id", *(["job", "person", "fee"] if joined else [])]
    picked = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3, unique=True))
    keys = draw(st.sampled_from([["film.film_id", "job"] if joined else ["film.film_id"], picked, picked[:1]]))
    directions = [f"{key}{draw(st.sampled_from(['', ' DESC']))}" for key in keys]
    if kind == "groups":
        order = draw(st.sampled_from(["", "many DESC, ", "2, "]))
        having = draw(st.sampled_from(["", " HAVING count(*) > :low", " HAVING min(votes) < :high"]))
        group = draw(st.sampled_from([picked, keys]))
        return (
            f"SELECT {picked[0]} AS one, {draw(_AGGREGATES)} AS many {{from}} "
            f"GROUP BY {', '.join(group)}{having} ORDER BY {order}{', '.join(directions)}"
        )
    distinct = "DISTINCT " if kind == "distinct" else ""
    extra = "" if distinct else draw(st.sampled_from(["", ", votes + :low AS more", ", title || '!' AS loud"]))
    order = draw(st.sampled_from(["", f"ORDER BY {', '.join(directions)}", f"ORDER BY votes DESC, {directions[0]}"]))
    return f"SELECT {distinct}{', '.join(picked)}{extra} {{from}} {order}"


_AGGREGATES = st.sampled_from(
    [
        "count(*)",
        "count(year)",
        "count(DISTINCT genre)",
        "sum(votes)",
        "sum(votes * (3 - votes))",
        "sum(CASE WHEN year = :year THEN 1 ELSE 0 END)",
        "min(year)",
        "max(title)",
    ]
)


def _condition(draw: Draw, joined: bool) -> str:
    equal = ["genre = :genre", ":year = year", "year = :year", "film.film_id = :year"]
    others = [
        "votes BETWEEN :low AND :high",
        "year IN (:low, :high)",
        "title LIKE '%' || :part || '%'",
        "votes > :low",
        "title <> :part",
        "(genre = :part OR votes < :high)",
        "NOT (year IS NULL)",
        *(["fee >= :low", "job = :part"] if joined else []),
    ]
    first = draw(st.lists(st.sampled_from(equal), min_size=1, max_size=2, unique=True))
    rest = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    return " AND ".join([*first, *rest])


def _films(draw: Draw) -> list[tuple[Any, ...]]:
    row = st.tuples(_TEXTS, st.none() | _TEXTS, st.none() | _NUMBERS, _NUMBERS)
    return [(number, *film) for number, film in enumerate(draw(st.lists(row, max_size=8)))]


def _credits(draw: Draw) -> list[tuple[Any, ...]]:
    row = st.tuples(st.integers(0, 6), _TEXTS, st.none() | _NUMBERS, _NUMBERS)
    return draw(st.lists(row, max_size=8, unique_by=lambda credit: credit[:2]))
