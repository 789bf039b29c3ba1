"""A tool for queries that a workflow knows beforehand: constant SQL, and values for its named places."""

from collections.abc import Mapping

import sqlglot
from sqlglot import exp

import halo
from workloads.text2sql.databases import locate
from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import QueryResult

SHOWN_ROWS = 10


@halo.tool(effect="pure", timeout="8s", retries=1, isolated=True, memory_mb=512)
def look_up(database: str, sql: str, values: Mapping[str, str | int | float]) -> str:
    """The first rows of one SELECT as text, or why there are none.

    `:name` in the SQL stands for `values["name"]`, whatever that holds.
    """
    return _as_text(guarded_select(locate(database), _filled(sql, values)))


def _filled(sql: str, values: Mapping[str, str | int | float]) -> str:
    """The query with its values as literals. The sandbox allows no bound parameters, so that all it sees is text."""
    return exp.replace_placeholders(sqlglot.parse_one(sql, read="sqlite"), **values).sql(dialect="sqlite")


def _as_text(result: QueryResult) -> str:
    """A heading, a line for each row shown, and how many there are."""
    if result.error:
        return f"no result: {result.error.message}"
    lines = [" | ".join("" if cell is None else str(cell) for cell in row) for row in result.rows[:SHOWN_ROWS]]
    return "\n".join([" | ".join(result.columns), *lines, f"rows: {len(result.rows)}"])
