"""Statements for many rows at once: the store's hot path, so plain SQL and plain tuples."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, Select, Text, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from executor.store.tables import POSTGRES_NOW, SQLITE_NOW, stored_text


@dataclass(frozen=True, slots=True)
class Bulk:
    """One statement for any number of rows: SQLite runs it once a row, PostgreSQL takes each column as an array."""

    sqlite: str
    postgres: str

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """How many rows of the table were changed."""
        if not rows:
            return 0
        if connection.dialect.name == "sqlite":
            return connection.exec_driver_sql(self.sqlite, list(rows)).rowcount
        columns = tuple([list(column) for column in zip(*rows, strict=True)])
        return connection.exec_driver_sql(self.postgres, columns).rowcount


def _insert(table: str, columns: dict[str, str], tail: str = "", now: str | None = None) -> Bulk:
    """`columns` maps each given column to its PostgreSQL type; `now` names one that takes the database's time."""
    names = [*columns, now] if now else list(columns)
    into = f"INSERT INTO {table} ({', '.join(names)})"
    marks = ["?"] * len(columns) + ([SQLITE_NOW] if now else [])
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(columns.values(), 1))
    picked = [f"given.{name}" for name in columns] + ([POSTGRES_NOW] if now else [])
    return Bulk(
        f"{into} VALUES ({', '.join(marks)}) {tail}",
        f"{into} SELECT {', '.join(picked)} FROM unnest({arrays}) AS given({', '.join(columns)}) {tail}",
    )


INSERT_PROGRAMS = _insert("programs", {"job_id": "text", "row_index": "int", "input": "text"})

INSERT_EVENTS = _insert("events", {"job_id": "text", "row_index": "int", "kind": "text", "detail": "text"}, now="at")

_NODE = {
    "job_id": "text",
    "row_index": "int",
    "path": "text",
    "attempt": "int",
    "status": "text",
    "output": "text",
    "tools": "text",
    "shared_job": "text",
    "shared_row": "int",
    "shared_path": "text",
    "calls": "int",
    "tool_runs": "int",
    "prompt_tokens": "bigint",
    "output_tokens": "bigint",
    "cached_tokens": "bigint",
    "engine": "text",
    "ready_at": "float8",
    "begun_at": "float8",
    "ended_at": "float8",
}
_DONE = ", ".join(f"{name} = excluded.{name}" for name in list(_NODE)[3:])

#: A node is written once; only one that was no more than begun is written over.
INSERT_OUTPUTS = _insert(
    "nodes", _NODE, f"ON CONFLICT (job_id, row_index, path) DO UPDATE SET {_DONE} WHERE nodes.status = 'begun'"
)

INSERT_BEGUN = _insert("nodes", _NODE, "ON CONFLICT DO NOTHING")

INSERT_DECISIONS = _insert(
    "decisions",
    {
        "job_id": "text",
        "seq": "bigint",
        "row_index": "int",
        "path": "text",
        "attempt": "int",
        "at": "float8",
        "detail": "text",
    },
    "ON CONFLICT DO NOTHING",
)

INSERT_DRAINED = _insert("drained_engines", {"engine": "text", "operator": "text"}, "ON CONFLICT DO NOTHING", now="at")

#: Rows of (status, result, failure, job, row).
END_PROGRAMS = Bulk(
    "UPDATE programs SET status = ?, result = ?, failure = ? WHERE job_id = ? AND row_index = ? AND status = 'pending'",
    """UPDATE programs SET status = given.status, result = given.result, failure = given.failure
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[])
      AS given(status, result, failure, job_id, row_index)
    WHERE programs.job_id = given.job_id AND programs.row_index = given.row_index AND programs.status = 'pending'""",
)


def select_at(
    connection: Connection,
    what: Sequence[Column[Any]],
    key: Sequence[Column[Any]],
    keys: Sequence[tuple[str | int, ...]],
) -> Select[Any]:
    """Selects what stands at the keys, by one look into the index for each.

    A list after IN is left to the planner, which without statistics (PostgreSQL), or for keys of several columns
    (SQLite), may read the whole table instead.
    """
    stored = [tuple(stored_text(part) if isinstance(part, str) else part for part in one) for one in keys]
    if connection.dialect.name == "sqlite":
        pairs = func.json_each(json.dumps(stored)).table_valued("value", name="given")
        parts = [func.json_extract(pairs.c.value, f"$[{place}]") for place in range(len(key))]
        return select(*what).select_from(pairs.join(key[0].table, _equal(key, parts)))
    kinds = [ARRAY(Integer if isinstance(column.type, Integer) else Text) for column in key]
    arrays = [bindparam(None, list(parts), kind) for parts, kind in zip(zip(*stored, strict=True), kinds, strict=True)]
    names = [column.name for column in key]
    given = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return select(*what).select_from(given.join(key[0].table, _equal(key, [given.c[name] for name in names])))


def _equal(key: Sequence[Column[Any]], parts: Sequence[Any]) -> Any:
    return and_(*(column == part for column, part in zip(key, parts, strict=True)))
