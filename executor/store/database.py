"""How Halo talks to its database: connections, transactions, and failures told as the port promises."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from executor.store.failures import StoreRefused, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

LOCK_WAIT_S = 5.0
STATEMENT_S = 60.0
_READERS = 4

#: SQLSTATE classes: connection lost, read only, rolled back, no room, not now, shut down, system. SQLite: the same.
_PASSING = {
    *("08", "25", "40", "53", "55", "57", "58"),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
}
#: Not let in, no such database; a damaged file, or one that is no database.
_TO_MEND = {"28", "3D", sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """Runs the store's work, which is written once, as plain functions of a `Connection`, for every database.

    SQLite is a library, not a server: a whole transaction runs in a thread, so that the event loop hears of it once and
    not at every statement. PostgreSQL is waited for on the event loop. Locks of others are waited for, and connections
    to PostgreSQL, as long as `lock_wait_s`.
    """

    def __init__(self, url: URL, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._body = _Sqlite(url, lock_wait_s) if self.is_sqlite else _Postgres(url, lock_wait_s)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        """Each statement of the work sees what is committed when it starts."""
        return await self._body.read(lambda connection: work(connection, *arguments, **named))

    async def write(self, work: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        """One transaction, committed when the work returns and rolled back when it raises."""
        return await self._body.write(lambda connection: work(connection, *arguments, **named))

    async def close(self) -> None:
        """May be called twice. A transaction that runs is waited for."""
        await self._body.close()


_Connect = Callable[[], AbstractContextManager[Connection]]


class _Sqlite:
    """SQLite has one writer at a time, so all writers of a process take turns in one thread."""

    def __init__(self, url: URL, lock_wait_s: float) -> None:
        options = {"isolation_level": None, "timeout": lock_wait_s}
        self._engine = create_engine(url, connect_args=options, pool_size=1 + _READERS, pool_reset_on_return=None)
        event.listen(self._engine, "connect", lambda connection, _: _set_up_sqlite(connection, lock_wait_s))
        self._writer = ThreadPoolExecutor(1, "halo store writer")
        self._readers = ThreadPoolExecutor(_READERS, "halo store reader")
        self._closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._in_thread(self._readers, self._engine.connect, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return await self._in_thread(self._writer, self._transaction, work)

    async def close(self) -> None:
        self._closed = True
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()

    async def _in_thread(self, threads: ThreadPoolExecutor, connect: _Connect, work: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        return await asyncio.get_running_loop().run_in_executor(threads, _run, connect, work)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            # Taking the write lock at once waits its turn; taking it in the middle of a transaction fails instead.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


def _run(connect: _Connect, work: Callable[[Connection], T]) -> T:
    with failures_told(), connect() as connection:
        return work(connection)


class _Postgres:
    def __init__(self, url: URL, lock_wait_s: float) -> None:
        settings = {"application_name": "halo"}
        options: dict[str, Any] = {"timeout": lock_wait_s, "command_timeout": STATEMENT_S, "server_settings": settings}
        self._writer = create_async_engine(url, connect_args=options, pool_size=10, pool_timeout=lock_wait_s)
        self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    async def read(self, work: Callable[[Connection], T]) -> T:
        with failures_told():
            async with self._reader.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        with failures_told():
            async with self._writer.begin() as connection:
                return await connection.run_sync(work)

    async def close(self) -> None:
        await self._writer.dispose()


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
    return url.set(drivername="sqlite")


def _set_up_sqlite(connection: Any, lock_wait_s: float) -> None:
    cursor = connection.cursor()
    _keep_a_write_ahead_log(cursor, lock_wait_s)
    # FULL: with a write-ahead log, NORMAL may lose the last commits when the power goes.
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "wal_autocheckpoint = 4000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _keep_a_write_ahead_log(cursor: sqlite3.Cursor, lock_wait_s: float) -> None:
    """SQLite does not wait for others here, whatever its time-out: of many that open a new file at once, some fail."""
    give_up_at = time.monotonic() + lock_wait_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
        time.sleep(0.01)


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
