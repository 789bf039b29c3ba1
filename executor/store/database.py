"""How Halo talks to its database: connections, transactions, and failures told as the port promises."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from executor.store.port import StoreRefused, StoreUnavailable

LOCK_WAIT_S = 5.0
CONNECT_S = 5.0
STATEMENT_S = 60.0
_WRITES = {"halo_writes": True}

#: SQLSTATE classes: connection lost, read only, rolled back, no room, not now, shut down, system. SQLite: the same.
_PASSING = {
    *("08", "25", "40", "53", "55", "57", "58"),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
}
#: Not let in, no such database; a damaged file, or one that is no database.
_TO_MEND = {"28", "3D", sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """Hands out connections. SQLite has one writer at a time, so writers of one process queue here, in order."""

    def __init__(self, url: URL, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self._engine = _engine(url, lock_wait_s)
        self._writer = self._engine.execution_options(**_WRITES)
        self._one_writer = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading: each statement sees what is committed when it starts."""
        with failures_told():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        turn = self._one_writer if self.is_sqlite else nullcontext()
        with failures_told():
            async with turn, self._writer.begin() as connection:
                yield connection

    async def close(self) -> None:
        await self._engine.dispose()


def database_url(url: str) -> URL:
    """The address with the driver Halo uses. Raises `StoreRefused`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreRefused(_NOT_A_DATABASE) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite_url(parsed)
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+asyncpg")
        case _:
            raise StoreRefused(_NOT_A_DATABASE)


_NOT_A_DATABASE = (
    "The store's address is not one Halo knows: write sqlite:///halo.db or postgresql://user@host/database."
)


def _sqlite_url(url: URL) -> URL:
    if url.database in (None, "", ":memory:"):
        raise StoreRefused("A SQLite store needs a file: write sqlite:///halo.db.")
    folder = Path(str(url.database)).parent
    if not folder.is_dir():
        raise StoreRefused(f"The folder {folder} of the SQLite store does not exist: make it first.")
    return url.set(drivername="sqlite+aiosqlite")


def _engine(url: URL, lock_wait_s: float) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        settings = {"application_name": "halo"}
        options: dict[str, Any] = {"timeout": CONNECT_S, "command_timeout": STATEMENT_S, "server_settings": settings}
        return create_async_engine(url, connect_args=options, pool_size=10, pool_timeout=LOCK_WAIT_S)
    options = {"isolation_level": None, "timeout": lock_wait_s}
    engine = create_async_engine(url, connect_args=options, pool_size=5, pool_timeout=LOCK_WAIT_S)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    # FULL: with a write-ahead log, NORMAL may lose the last commits when the power goes.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "wal_autocheckpoint = 4000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # Taking the write lock at once waits its turn; taking it in the middle of a transaction fails instead.
    if connection.get_execution_options().get("halo_writes"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def failures_told() -> Iterator[None]:
    """What may pass becomes `StoreUnavailable`, what a person must mend `StoreRefused`; a fault of Halo's stays one."""
    try:
        yield
    except DBAPIError as error:
        code = _code(error)
        if code in _TO_MEND:
            raise StoreRefused(f"The database cannot be used: {first_line(error.orig)}") from error
        if code in _PASSING or error.connection_invalidated or isinstance(error, InterfaceError):
            raise StoreUnavailable(first_line(error.orig)) from error
        raise
    except (OSError, PoolTimeout) as error:
        raise StoreUnavailable(first_line(error) or type(error).__name__) from error


def _code(error: DBAPIError) -> str | int:
    """The class of PostgreSQL's SQLSTATE, or SQLite's result code without its extension."""
    state = getattr(error.orig, "sqlstate", None)
    return state[:2] if state else getattr(error.orig, "sqlite_errorcode", 0) & 0xFF


def first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "")
