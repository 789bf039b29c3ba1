"""A model's query, guarded and then run."""

from pathlib import Path

from workloads.text2sql.guard import refusal_of
from workloads.text2sql.sandbox import DEFAULT_LIMITS, QueryLimits, QueryResult, execute_select


def guarded_select(database: Path, sql: str, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
    """What the query returns, or the guard's refusal as the result's error."""
    if refusal := refusal_of(sql):
        return QueryResult(error=refusal)
    return execute_select(database, sql, limits=limits)
