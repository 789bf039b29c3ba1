"""Execution match: whether a predicted query returns what the gold query returns on the same database."""

from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot.errors import SqlglotError

from workloads.text2sql.equality import results_equal
from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import DEFAULT_LIMITS, QueryLimits, QueryResult, execute_select


@dataclass(frozen=True, slots=True)
class Score:
    """`verdict`: `match`, `different`, `failed` (the prediction gave an error), `gold_failed` (nothing to compare)."""

    matched: bool
    verdict: str
    detail: str = ""


def execution_match(database: Path, gold_sql: str, predicted_sql: str, limits: QueryLimits = DEFAULT_LIMITS) -> Score:
    """Run both within the sandbox's limits and compare (`equality` says how)."""
    gold = execute_select(database, gold_sql, limits=limits)
    return score_results(gold_sql, gold, guarded_select(database, predicted_sql, limits))


def score_results(gold_sql: str, gold: QueryResult, predicted: QueryResult) -> Score:
    """The same for results at hand. Order counts where the gold query asks for one."""
    if gold.error:
        return Score(False, "gold_failed", gold.error.message)
    if predicted.error:
        return Score(False, "failed", predicted.error.message)
    if results_equal(gold, predicted, ordered=asks_for_order(gold_sql)):
        return Score(True, "match")
    return Score(False, "different", f"{len(predicted.rows)} rows returned, {len(gold.rows)} in the gold result")


def asks_for_order(sql: str) -> bool:
    """Whether the outermost query has an ORDER BY."""
    try:
        return sqlglot.parse_one(sql, read="sqlite").args.get("order") is not None
    except (SqlglotError, RecursionError):
        return False
