"""A tool for queries that a workflow knows beforehand: constant SQL, and values for its named places."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

import halo
from planner.sql.merge import Merged, NotMerged, merge
from planner.sql.statement import Dialect
from workloads.programs.sqlite_catalog import catalog_of
from workloads.text2sql.databases import is_made, locate
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


def same_statement(database: str, sql: str, values: Values) -> tuple[str, str] | None:
    """What calls that become one statement have in common; None when the SQL has to run by itself."""
    return (database, sql) if is_made(database) and _merges(locate(database), sql, _kinds(values)) else None


@look_up.batched(together=same_statement)
def look_up_many(calls: list[dict[str, Any]]) -> Iterator[str]:
    """Calls with the same SQL become one statement where that is provably the same; the others run one by one."""
    return answers_of(calls, guarded_select)


def answers_of(calls: Sequence[Mapping[str, Any]], select: Select) -> Iterator[str]:
    """What `look_up` says to each call, in their order; `select` runs the statements, none before it is needed."""
    alike: dict[tuple[str, str], list[Values]] = {}
    for call in calls:
        alike.setdefault((call["database"], call["sql"]), []).append(call["values"])
    results = {
        (database, sql): _results(locate(database), sql, instances, select)
        for (database, sql), instances in alike.items()
    }
    for call in calls:
        yield _as_text(next(results[call["database"], call["sql"]]))


def merged_statement(database: Path, sql: str, instances: Sequence[Values]) -> Merged | NotMerged:
    """One statement for the values of all instances, or why there is none."""
    if len(instances) < 2 or not database.is_file():
        return NotMerged("there is nothing to merge")
    return merge(sql, instances, Dialect.SQLITE, catalog_of(database))


@lru_cache(maxsize=1024)
def _merges(database: Path, sql: str, kinds: tuple[tuple[str, type], ...]) -> bool:
    """Whether instances with values of these kinds may become one statement; the values themselves decide later."""
    values = {name: kind(1) for name, kind in kinds}
    return isinstance(merged_statement(database, sql, [values, values]), Merged)


def _kinds(values: Values) -> tuple[tuple[str, type], ...]:
    return tuple((name, type(value)) for name, value in sorted(values.items()))


def _results(database: Path, sql: str, instances: Sequence[Values], select: Select) -> Iterator[QueryResult]:
    merged = _merged_results(database, sql, instances, select)
    for values, result in zip(instances, merged, strict=True):
        yield select(database, _filled(sql, values)) if result is None else result


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
