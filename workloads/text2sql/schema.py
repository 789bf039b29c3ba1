"""What a database holds, as text for a prompt: tables, columns, keys, a few values of each. Same file, same text."""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.text2sql.sandbox import open_read_only, presentable

ROWS_LOOKED_AT = 1_000
EXAMPLE_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """`examples` are literals as SQL writes them."""

    name: str
    type: str
    is_key: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    column: str
    table: str
    target: str


@dataclass(frozen=True, slots=True)
class TableSchema:
    name: str
    columns: tuple[ColumnSchema, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseSchema:
    tables: tuple[TableSchema, ...]


class SchemaUnreadable(Exception):
    """The file is missing or is no SQLite database. The message names the file and the fix."""


def read_schema(database: Path, *, examples: int = 3) -> DatabaseSchema:
    """Tables and views by name, columns in their order, up to `examples` values of each. Raises `SchemaUnreadable`."""
    if not database.is_file():
        raise SchemaUnreadable(f"There is no database file {database}. Check the folder of the databases.")
    try:
        with closing(open_read_only(database)) as connection:
            return DatabaseSchema(tuple(_table_schema(connection, name, examples) for name in _table_names(connection)))
    except sqlite3.Error as error:
        raise SchemaUnreadable(f"{database} cannot be read as a SQLite database: {error}.") from error


def render_schema(schema: DatabaseSchema, *, tables: Collection[str] | None = None) -> str:
    """One `table(column type, ...)` block for each table, or for those named in `tables` (names in any case).

    film(
      film_id INTEGER PRIMARY KEY,  -- 1, 2, 3
      title TEXT,  -- 'Amber Coast', 'Blue Harbour'
      studio_id INTEGER -> studio.studio_id  -- 4, 2
    )
    """
    wanted = None if tables is None else {name.lower() for name in tables}
    kept = [table for table in schema.tables if wanted is None or table.name.lower() in wanted]
    return "\n\n".join(_render_table(table) for table in kept)


def _render_table(table: TableSchema) -> str:
    targets = {key.column: f" -> {_quoted(key.table)}.{_quoted(key.target)}" for key in table.foreign_keys}
    lines = [
        _render_column(column, targets.get(column.name, ""), last=column is table.columns[-1])
        for column in table.columns
    ]
    return "\n".join([f"{_quoted(table.name)}(", *lines, ")"])


def _render_column(column: ColumnSchema, target: str, *, last: bool) -> str:
    kind = f" {column.type}" if column.type else ""
    key = " PRIMARY KEY" if column.is_key else ""
    examples = f"  -- {', '.join(column.examples)}" if column.examples else ""
    return f"  {_quoted(column.name)}{kind}{key}{target}{'' if last else ','}{examples}"


#: SQLite's reserved words that make likely names.
RESERVED = """
    add all alter and as between by case check collate column constraint create cross current_date current_time
    current_timestamp default delete distinct drop else except exists foreign from full group having in index inner
    insert intersect into is isnull join left like limit natural not null on or order outer primary references right
    select set table then to transaction union unique update using values when where
"""
RESERVED_WORDS = frozenset(RESERVED.split())


def _quoted(name: str) -> str:
    """The name as SQL must write it."""
    if name.isidentifier() and name.isascii() and name.lower() not in RESERVED_WORDS:
        return name
    return '"' + " ".join(name.split()).replace('"', '""') + '"'


def _table_names(connection: sqlite3.Connection) -> list[str]:
    sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return [name for (name,) in connection.execute(f"{sql} ORDER BY name")]


def _table_schema(connection: sqlite3.Connection, name: str, examples: int) -> TableSchema:
    described = connection.execute("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", (name,)).fetchall()
    columns = tuple(
        ColumnSchema(column, " ".join(kind.split()), bool(key), _example_literals(connection, name, column, examples))
        for column, kind, key in described
    )
    return TableSchema(name, columns, _foreign_keys(connection, name))


def _foreign_keys(connection: sqlite3.Connection, name: str) -> tuple[ForeignKey, ...]:
    """Where a key names no target column, SQLite means the other table's primary key."""
    sql = 'SELECT "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq'
    found = connection.execute(sql, (name,)).fetchall()
    return tuple(ForeignKey(column, table, to or _primary_key(connection, table)) for column, table, to in found)


def _primary_key(connection: sqlite3.Connection, table: str) -> str:
    sql = "SELECT name FROM pragma_table_info(?) WHERE pk = 1"
    row = connection.execute(sql, (table,)).fetchone()
    return str(row[0]) if row else "rowid"


def _example_literals(connection: sqlite3.Connection, table: str, column: str, examples: int) -> tuple[str, ...]:
    """The first distinct values among the first rows, so that a large table costs no more than a small one."""
    if examples <= 0:
        return ()
    name, source = _quoted_always(column), _quoted_always(table)
    looked_at = f"SELECT {name} AS v FROM {source} WHERE {name} IS NOT NULL LIMIT {ROWS_LOOKED_AT}"
    rows = connection.execute(f"SELECT DISTINCT v FROM ({looked_at}) LIMIT {examples}")
    return tuple(_literal(value) for (value,) in rows)


def _quoted_always(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    """A value in one short line, so that no cell can pass for a part of the prompt."""
    if isinstance(value, int | float):
        return str(presentable(value))
    if isinstance(value, bytes):
        return f"x'{value[: EXAMPLE_CHARACTERS // 2].hex()}'"
    text = " ".join(str(value).split())
    short = text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 3] + "..."
    return "'" + short.replace("'", "''") + "'"
