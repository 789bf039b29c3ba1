"""The result cache in the store's database, or in one of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from executor.store.bulk import Bulk, select_at
from executor.store.database import Database
from executor.store.records import countable
from executor.store.result_cache import CacheBounds, CachedResult, CacheSize, Names
from executor.store.tables import POSTGRES_NOW, SQLITE_NOW, cached_results, stored_text
from executor.store.writes import Work

_NAMES_AT_ONCE = 500
_COLUMNS = "name, tenant, made_by, output, calls, tool_runs, prompt_tokens, output_tokens, bytes, created_at, used_at"
_FIELDS = cached_results.c


class SqlResultCache:
    """A `ResultCache`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def names(self, after: int = 0) -> Names:
        return await self._database.read(_names, after)

    async def find(self, names: Sequence[str]) -> Mapping[str, CachedResult]:
        return await self._database.read(_find, names)

    async def keep(self, results: Sequence[CachedResult], used: Sequence[str] = ()) -> None:
        await self._database.write(_keep, [_row(result) for result in results], [(name,) for name in sorted(set(used))])

    async def trim(self, bounds: CacheBounds) -> CacheSize:
        return await self._database.write(_trim, bounds)

    async def forget(self, tenant: str | None = None) -> int:
        return await self._database.write(_forget, tenant)


def _names(connection: Connection, after: int) -> Names:
    query = select(_FIELDS.number, _FIELDS.name).where(_FIELDS.number > after).order_by(_FIELDS.number)
    found = connection.execute(query).all()
    return Names([name for _, name in found], found[-1].number if found else after)


def _find(connection: Connection, names: Sequence[str]) -> dict[str, CachedResult]:
    found: dict[str, CachedResult] = {}
    for start in range(0, len(names), _NAMES_AT_ONCE):
        keys = [(name,) for name in names[start : start + _NAMES_AT_ONCE]]
        for row in connection.execute(select_at(connection, [*_FIELDS], [_FIELDS.name], keys)):
            found[row.name] = _result(row)
    return found


def _keep(connection: Connection, rows: Sequence[tuple[Any, ...]], used: Sequence[tuple[str]]) -> None:
    _INSERT.run(connection, rows)
    _TOUCH.run(connection, used)


def _trim(connection: Connection, bounds: CacheBounds) -> CacheSize:
    size = _size(connection)
    if size.entries <= bounds.entries and size.bytes <= bounds.bytes:
        return size
    connection.execute(_FORGET_OLDEST, {"entries": bounds.entries * 9 // 10, "bytes": bounds.bytes * 9 // 10})
    return _size(connection)


def _forget(connection: Connection, tenant: str | None) -> int:
    query = delete(cached_results)
    return connection.execute(query if tenant is None else query.where(_FIELDS.tenant == tenant)).rowcount


def _size(connection: Connection) -> CacheSize:
    entries, size = connection.execute(select(func.count(), func.coalesce(func.sum(_FIELDS.bytes), 0))).one()
    return CacheSize(entries, int(size))


def _row(result: CachedResult) -> tuple[Any, ...]:
    work = result.work
    counts = (work.calls, work.tools, work.prompt_tokens, work.output_tokens)
    texts = (stored_text(result.tenant), stored_text(result.by), stored_text(result.output))
    return (result.name, *texts, *map(countable, counts), result.bytes)


def _result(row: Any) -> CachedResult:
    work = Work(row.calls, row.tool_runs, row.prompt_tokens, row.output_tokens)
    return CachedResult(row.name, row.tenant, row.made_by, row.output, work)


_KINDS = ("text", "text", "text", "text", "int", "int", "bigint", "bigint", "bigint")
_ARRAYS = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_KINDS, 1))
_GIVEN = ", ".join(_COLUMNS.split(", ")[: len(_KINDS)])

_INSERT = Bulk(
    f"INSERT INTO cached_results ({_COLUMNS}) VALUES ({', '.join('?' * len(_KINDS))}, {SQLITE_NOW}, {SQLITE_NOW})"
    " ON CONFLICT DO NOTHING",
    f"INSERT INTO cached_results ({_COLUMNS}) SELECT {_GIVEN}, {POSTGRES_NOW}, {POSTGRES_NOW}"
    f" FROM unnest({_ARRAYS}) AS given({_GIVEN}) ON CONFLICT DO NOTHING",
)

_TOUCH = Bulk(
    f"UPDATE cached_results SET used_at = {SQLITE_NOW} WHERE name = ?",
    f"UPDATE cached_results SET used_at = {POSTGRES_NOW} FROM unnest($1::text[]) AS given(name)"
    " WHERE cached_results.name = given.name",
)

_FORGET_OLDEST = text(
    """DELETE FROM cached_results WHERE number IN (
      SELECT number FROM (
        SELECT number, row_number() OVER newest AS place, sum(bytes) OVER newest AS total FROM cached_results
        WINDOW newest AS (ORDER BY used_at DESC, number DESC)
      ) AS ranked WHERE place > :entries OR total > :bytes
    )"""
)
