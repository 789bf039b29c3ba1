"""The user's own result cache, shared by all batches on this machine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from executor.store.result_cache import CacheBounds, CacheSize, ResultCache
from halo.wiring import CacheChoice, open_any_store

NAME = "results.db"


def users_cache(environment: Mapping[str, str]) -> CacheChoice:
    """In HALO_CACHE_HOME, or the user's folder for caches. The folder is made if need be, for the user alone; that it
    cannot be made is told when the cache is opened."""
    caches = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(environment.get("HALO_CACHE_HOME") or caches / "halo")
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return CacheChoice(f"sqlite:///{folder / NAME}")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """A result cache as its owner looks after it. Raises `StoreRefused` or `StoreUnavailable`."""

    url: str
    bounds: CacheBounds

    @classmethod
    def of(cls, database: str | None, environment: Mapping[str, str]) -> Self:
        """That of a database, or the user's own."""
        choice = users_cache(environment)
        return cls(database or str(choice.url), choice.bounds)

    async def size(self) -> CacheSize:
        async with self._opened() as cache:
            return await cache.trim(self.bounds)

    async def clear(self) -> int:
        async with self._opened() as cache:
            return await cache.forget()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[ResultCache]:
        store = await open_any_store(self.url)
        try:
            yield store.result_cache
        finally:
            await store.close()
