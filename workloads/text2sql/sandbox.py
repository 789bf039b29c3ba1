"""Run one query on one SQLite file, read-only, within limits. What goes wrong is part of the answer, not an exception.

SQLite itself refuses all but reading (authorizer, `query_only`, `mode=ro`); a progress handler stops what takes too
long. One opcode can still take seconds (`instr` on long values), and memory is not bounded here: both need the killable
process of `executor.child_process` around this.
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.text2sql.functions import ALLOWED_FUNCTIONS, OPERATOR_FUNCTIONS

Cell = str | int | float | None
Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """`result_bytes` counts the rows as JSON, `cell_characters` one text; `time_s` is what SQLite may take."""

    time_s: float = 5.0
    rows: int = 10_000
    result_bytes: int = 1_000_000
    cell_characters: int = 65_536


DEFAULT_LIMITS = QueryLimits()


@dataclass(frozen=True, slots=True)
class QueryError:
    """Why a query gave nothing. `code` is stable; `message` says what to change.

    Codes: `sql_error`, `sql_refused`, `sql_timeout`, `database_missing`, `database_unreadable`, and the guard's.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows in the order SQLite gave them. `truncated`: a cell, a row or more was cut to stay within the limits.

    Blobs come as SQL literals (x'0aff'), infinities as the texts `Inf` and `-Inf`, because JSON has neither.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    truncated: bool = False
    error: QueryError | None = None


def execute_select(database: Path, sql: str, *, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
    """The result of one SELECT, or the error it ended with. Leaves nothing open and changes nothing."""
    if not database.is_file():
        return _failed("database_missing", f"There is no database file named {database.name}.")
    deadline_s = time.monotonic() + limits.time_s
    try:
        with closing(open_read_only(database)) as connection:
            _confine(connection, deadline_s)
            return _collect(connection.execute(sql), limits)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        if time.monotonic() >= deadline_s:
            return _failed("sql_timeout", f"The query took more than {limits.time_s:g} s and was stopped.")
        return _explained(error)


def open_read_only(database: Path) -> sqlite3.Connection:
    """A connection that cannot write, create or load anything. Raises `sqlite3.Error` where this is no database."""
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = _readable
    for pragma in ("query_only = 1", "trusted_schema = 0", "temp_store = MEMORY", "cell_size_check = 1"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _readable(text: bytes) -> str:
    return text.decode(errors="replace")


#: Numbers of SQLite's limits that `sqlite3` names; see https://sqlite.org/limits.html.
SQLITE_LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20),
    (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 32),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 0),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)

STEPS_BETWEEN_CHECKS = 5_000


def _confine(connection: sqlite3.Connection, deadline_s: float) -> None:
    """From here on: reads of this file's own tables, known functions, small values, until `deadline_s` (monotonic)."""
    tables = frozenset(name.lower() for (name,) in connection.execute("SELECT name FROM sqlite_master"))
    for limit, most in SQLITE_LIMITS:
        connection.setlimit(limit, most)
    _defend(connection)
    connection.set_progress_handler(lambda: time.monotonic() >= deadline_s, STEPS_BETWEEN_CHECKS)
    connection.set_authorizer(lambda action, *names: _verdict(tables, action, names))


def _defend(connection: sqlite3.Connection) -> None:
    """SQLite's defensive mode, where this Python can set it (3.12 and later)."""
    set_config = getattr(connection, "setconfig", None)
    if set_config is not None:
        set_config(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), True)  # noqa: B009 - not known to 3.11


def _verdict(tables: frozenset[str], action: int, names: tuple[str | None, ...]) -> int:
    """What SQLite's authorizer answers for one thing a statement would do."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        name = (names[1] or "").lower()
        return sqlite3.SQLITE_OK if name in ALLOWED_FUNCTIONS or name in OPERATOR_FUNCTIONS else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ:
        return sqlite3.SQLITE_OK if _may_read(tables, (names[0] or "").lower()) else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY


def _may_read(tables: frozenset[str], name: str) -> bool:
    return name in tables and not name.startswith("sqlite_")


def _collect(cursor: sqlite3.Cursor, limits: QueryLimits) -> QueryResult:
    if cursor.description is None:
        return _failed("sql_error", "The statement is not a query: it gives no rows.")
    columns = tuple(str(column[0]) for column in cursor.description)
    rows: list[Row] = []
    room_bytes, truncated = limits.result_bytes - _json_bytes(columns), False
    for row, cut in _presentable_rows(cursor, limits.cell_characters):
        room_bytes -= _json_bytes(row)
        if room_bytes < 0 or len(rows) == limits.rows:
            return QueryResult(columns, tuple(rows), truncated=True)
        rows.append(row)
        truncated = truncated or cut
    return QueryResult(columns, tuple(rows), truncated)


def _json_bytes(row: tuple[Cell, ...]) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode()) + 2


def _presentable_rows(cursor: sqlite3.Cursor, cell_characters: int) -> Iterator[tuple[Row, bool]]:
    """Each row as JSON can hold it, and whether a cell of it had to be cut."""
    for row in cursor:
        whole = tuple(presentable(cell) for cell in row)
        kept = tuple(cell[:cell_characters] if isinstance(cell, str) else cell for cell in whole)
        yield kept, kept != whole


def presentable(cell: Any) -> Cell:
    if isinstance(cell, bytes):
        return f"x'{cell.hex()}'"
    if isinstance(cell, float) and math.isinf(cell):
        return "Inf" if cell > 0 else "-Inf"
    kept: Cell = cell
    return kept


def _explained(error: Exception) -> QueryResult:
    """SQLite's message is what a model can mend its query by, so it is kept as it is."""
    message, name = str(error), getattr(error, "sqlite_errorname", "")
    if name in UNREADABLE:
        return _failed("database_unreadable", f"The database file cannot be read: {message}.")
    if "authoriz" in message or "prohibited" in message:
        return _failed("sql_refused", f"{message}. A query may only read the tables of its database.")
    return _failed("sql_error", message)


UNREADABLE = ("SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PERM")


def _failed(code: str, message: str) -> QueryResult:
    return QueryResult(error=QueryError(code, message))
