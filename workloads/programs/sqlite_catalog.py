"""What SQLite says of a file's tables, as far as merging reads of them needs it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.sql.catalog import Catalog, Kind, Table
from workloads.text2sql.sandbox import open_read_only


def catalog_of(database: Path) -> Catalog:
    """Its ordinary tables; views and virtual tables are left out. Raises `sqlite3.Error` where this is no database."""
    status = database.stat()
    return _catalog(database, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _catalog(database: Path, modified_ns: int, size_bytes: int) -> Catalog:
    with closing(open_read_only(database)) as connection:
        listed = connection.execute("SELECT name, wr, strict FROM pragma_table_list WHERE type = 'table'").fetchall()
        tables = [_SqliteTable(connection, *one) for one in listed if not one[0].startswith("sqlite_")]
        return {table.name.lower(): Table(table.columns(), tuple(table.keys())) for table in tables}


class _SqliteTable:
    def __init__(self, connection: sqlite3.Connection, name: str, without_rowid: int, strict: int) -> None:
        self._connection = connection
        self.name, self._without_rowid, self._strict = name, bool(without_rowid), bool(strict)
        self._columns = self._rows('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden = 0', name)
        self._indexes = self._rows('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', name)
        self._definition = self._rows("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", name)

    def columns(self) -> dict[str, Kind]:
        return {name.lower(): self._kind(name, declared.upper()) for name, declared, _, _ in self._columns}

    def keys(self) -> Iterator[frozenset[str]]:
        """The sets of columns that tell rows apart and are never null."""
        if self._rowid_name:
            yield frozenset([self._rowid_name.lower()])
        for index, unique, origin, partial in self._indexes:
            names = [name for (name,) in self._rows("SELECT name FROM pragma_index_xinfo(?) WHERE key = 1", index)]
            sound = origin == "pk" and (self._strict or self._without_rowid)
            if unique and not partial and all(name and (sound or name in self._never_null) for name in names):
                yield frozenset(name.lower() for name in names)

    def _kind(self, name: str, declared: str) -> Kind:
        """By SQLite's rules of affinity (https://sqlite.org/datatype3.html, section 3.1)."""
        if name == self._rowid_name or (self._strict and declared in ("INT", "INTEGER")):
            return Kind.WHOLE
        if "INT" in declared:
            return Kind.NUMBER
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return Kind.OTHER if self._has_collations else Kind.TEXT
        return Kind.OTHER if not declared or "BLOB" in declared or declared == "ANY" else Kind.NUMBER

    @property
    def _rowid_name(self) -> str | None:
        """The column that is the row's number: it needs no index, as any other primary key does."""
        primary = [(name, declared) for name, declared, _, place in self._columns if place]
        indexed = self._without_rowid or any(origin == "pk" for _, _, origin, _ in self._indexes)
        return primary[0][0] if len(primary) == 1 and primary[0][1].upper() == "INTEGER" and not indexed else None

    @property
    def _never_null(self) -> set[str]:
        return {name for name, _, never_null, _ in self._columns if never_null}

    @property
    def _has_collations(self) -> bool:
        return any("COLLATE" in sql.upper() for (sql,) in self._definition)

    def _rows(self, sql: str, name: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, (name,)).fetchall()
