"""What a Text-to-SQL workflow calls as tools: JSON in, JSON out, nothing kept. Meant for `executor.child_process`."""

from pathlib import Path
from typing import Any

from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import QueryLimits, result_from_json, result_to_json
from workloads.text2sql.schema import read_schema, render_schema
from workloads.text2sql.score import execution_match
from workloads.text2sql.vote import vote


def describe_database(database: str, tables: list[str] | None = None, examples: int = 3) -> str:
    """The schema text of the SQLite file `database`, of all its tables or of those named. Raises `SchemaUnreadable`."""
    return render_schema(read_schema(Path(database), examples=examples), tables=tables)


def list_tables(database: str) -> list[str]:
    """The names of the tables and views, sorted. Raises `SchemaUnreadable`."""
    return [table.name for table in read_schema(Path(database), examples=0).tables]


def query_database(database: str, sql: str, time_s: float = 5.0) -> dict[str, Any]:
    """Guard the query, then run it: `{"columns", "rows", "truncated", "error"}`. An error is an answer, not raised."""
    return result_to_json(guarded_select(Path(database), sql, QueryLimits(time_s=time_s)))


def choose_candidate(candidates: list[str], results: list[dict[str, Any]]) -> dict[str, Any]:
    """The winner by vote: `{"sql", "votes", "candidates", "result"}`. `results` are what `query_database` gave.

    Raises `ValueError` where there are no candidates, or not one result for each.
    """
    if not candidates or len(candidates) != len(results):
        raise ValueError(f"{len(candidates)} candidates have {len(results)} results; one result each is needed")
    winner = vote([result_from_json(result) for result in results])
    return {
        "sql": candidates[winner.index],
        "votes": winner.votes,
        "candidates": winner.candidates,
        "result": results[winner.index],
    }


def score_query(database: str, gold_sql: str, sql: str) -> dict[str, Any]:
    """Execution match as a tool: `{"matched", "verdict", "detail"}` as in `score.Score`."""
    score = execution_match(Path(database), gold_sql, sql)
    return {"matched": score.matched, "verdict": score.verdict, "detail": score.detail}
