"""A tool for queries that a workflow knows beforehand: constant SQL, and values for its named places."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

import halo
from planner.sql.merge import Merged, NotMerged, merge
from planner.sql.statement import Dialect
from workloads.programs.sqlite_catalog import catalog_of
from workloads.text2sql.databases import locate
from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import QueryResult

SHOWN_ROWS = 10

Values = Mapping[str, str | int | float]
#: Runs one SELECT on one file.
Select = Callable[[Path, str], QueryResult]


@halo.tool(effect="pure", timeout="8s", retries=1, max_batch=64, isolated=True, memory_mb=512)
def look_up(database: str, sql: str, values: Mapping[str, str | int | float]) -> str:
    """The first rows of one SELECT as text, or why there are none.

    `:name` in the SQL stands for `values["name"]`, whatever that holds.
    """
    return _as_text(guarded_select(locate(database), _filled(sql, values)))


@look_up.batched
def look_up_many(calls: list[dict[str, Any]]) -> list[str]:
    """Calls with the same SQL become one statement where that is provably the same; the others run one by one."""
    return answers_of(calls, guarded_select)


def answers_of(calls: Sequence[Mapping[str, Any]], select: Select) -> list[str]:
    """What `look_up` says to each call; `select` runs the statements."""
    alike: dict[tuple[str, str], list[int]] = {}
    for number, call in enumerate(calls):
        alike.setdefault((call["database"], call["sql"]), []).append(number)
    answers: dict[int, str] = {}
    for (database, sql), numbers in alike.items():
        results = _results(locate(database), sql, [calls[number]["values"] for number in numbers], select)
        answers.update(zip(numbers, map(_as_text, results), strict=True))
    return [answers[number] for number in range(len(calls))]


def merged_statement(database: Path, sql: str, instances: Sequence[Values]) -> Merged | NotMerged:
    """One statement for the values of all instances, or why there is none."""
    if len(instances) < 2 or not database.is_file():
        return NotMerged("there is nothing to merge")
    return merge(sql, instances, Dialect.SQLITE, catalog_of(database))


def _results(database: Path, sql: str, instances: Sequence[Values], select: Select) -> list[QueryResult]:
    merged = _merged_results(database, sql, instances, select)
    return [
        select(database, _filled(sql, values)) if result is None else result
        for values, result in zip(instances, merged, strict=True)
    ]


def _merged_results(database: Path, sql: str, instances: Sequence[Values], select: Select) -> list[QueryResult | None]:
    """None for each instance that has to be asked by itself: all of them, when anything at all is odd."""
    alone: list[QueryResult | None] = [None] * len(instances)
    merged = merged_statement(database, sql, instances)
    if isinstance(merged, NotMerged):
        return alone
    whole = select(database, merged.sql)
    if whole.error or whole.truncated:
        return alone
    parts = merged.split(whole.rows)
    return [None if rows is None else QueryResult(whole.columns[:-1], tuple(rows)) for rows in parts]


def _filled(sql: str, values: Values) -> str:
    """The query with its values as literals. The sandbox allows no bound parameters, so that all it sees is text."""
    return exp.replace_placeholders(sqlglot.parse_one(sql, read="sqlite"), **values).sql(dialect="sqlite")


def _as_text(result: QueryResult) -> str:
    """A heading, a line for each row shown, and how many there are."""
    if result.error:
        return f"no result: {result.error.message}"
    lines = [" | ".join("" if cell is None else str(cell) for cell in row) for row in result.rows[:SHOWN_ROWS]]
    return "\n".join([" | ".join(result.columns), *lines, f"rows: {len(result.rows)}"])
