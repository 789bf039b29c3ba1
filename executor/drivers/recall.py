"""Results of earlier jobs: looked up before fixed work is done, and kept after it was.

The names of all kept results are held in memory, so that work nobody did before costs no look-up; what is known is
fetched in groups, and what is new is written in groups, beside the run.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import structlog

from executor.clock import Clock
from executor.store.failures import StoreUnavailable
from executor.store.result_cache import CacheBounds, CachedResult, ResultCache

WRITE_EVERY_S = 0.5
REFRESH_EVERY_S = 2.0
MOST_UNWRITTEN = 20_000
#: Part of every name: results that an older Halo read out of answers in another way are not found.
FORMAT = "1"

log = structlog.get_logger(__name__)

Then = Callable[[CachedResult | None], None]


class Fixed(NamedTuple):
    """Work that gives the same whenever it is done: its name in the cache, whose it is, and which model or tool did it
    in which revision or version."""

    name: str
    tenant: str
    by: str
    revision: str


def fixed_work(tenant: str, by: str, revision: str, key: str) -> Fixed:
    """`key` is the run-time content key: everything that is asked."""
    named = _whose(tenant, by, revision).copy()
    named.update(key.encode())
    return Fixed(named.hexdigest(), tenant, by, revision)


@lru_cache(maxsize=1024)
def _whose(tenant: str, by: str, revision: str) -> "blake2b":
    text = "\x00".join((FORMAT, tenant, by, revision, ""))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"result")


class Recall:
    """The driver's side of a `ResultCache`. A cache that fails is done without: nothing is raised, only said once."""

    def __init__(self, cache: ResultCache, bounds: CacheBounds, clock: Clock) -> None:
        self._cache, self._bounds, self._clock = cache, bounds, clock
        self._names: set[str] = set()
        self._last = 0
        self._refreshed_s = float("-inf")
        self._bytes = 0
        self._asked: dict[str, list[Then]] = {}
        self._unwritten: dict[str, CachedResult] = {}
        self._writing: Mapping[str, CachedResult] = {}
        self._used: set[str] = set()
        self._ask, self._write = asyncio.Event(), asyncio.Event()
        self._failed = False

    async def start(self, spawn: Callable[[Coroutine[None, None, None]], None]) -> None:
        await self._safely(self._trim())
        spawn(self._fetch_for_ever())
        spawn(self._write_for_ever())

    async def close(self) -> None:
        """Write what is not yet written."""
        await self._safely(self._flush())

    async def refresh(self) -> None:
        """Learn what others have kept since; asked often, it asks the cache now and then."""
        now = self._clock.now()
        if now - self._refreshed_s >= REFRESH_EVERY_S:
            self._refreshed_s = now
            await self._safely(self._learn())

    def knows(self, work: Fixed) -> bool:
        """Whether the result is kept, as far as is known; it may be gone when it is asked for."""
        return work.name in self._names

    def ask(self, work: Fixed, then: Then) -> None:
        """`then` is told the result, or None, soon and not at once."""
        self._asked.setdefault(work.name, []).append(then)
        self._ask.set()

    def keep(self, result: CachedResult) -> None:
        size = result.bytes
        if size > self._bounds.result_bytes or len(self._unwritten) >= MOST_UNWRITTEN or result.name in self._names:
            return
        self._unwritten[result.name] = result
        self._names.add(result.name)
        self._bytes += size
        self._write.set()

    async def _fetch_for_ever(self) -> None:
        while True:
            await self._ask.wait()
            self._ask.clear()
            asked, self._asked = self._asked, {}
            found: dict[str, CachedResult] = {}
            await self._safely(self._fetch(list(asked), found))
            for name, waiting in asked.items():
                self._tell(name, waiting, found.get(name))

    async def _fetch(self, names: list[str], found: dict[str, CachedResult]) -> None:
        for name in names:
            at_hand = self._unwritten.get(name) or self._writing.get(name)
            if at_hand is not None:
                found[name] = at_hand
        found |= await self._cache.find([name for name in names if name not in found])

    def _tell(self, name: str, waiting: list[Then], result: CachedResult | None) -> None:
        if result is None:
            self._names.discard(name)
        else:
            self._used.add(name)
            self._write.set()
        for then in waiting:
            then(result)

    async def _write_for_ever(self) -> None:
        while True:
            await self._write.wait()
            await self._clock.sleep(WRITE_EVERY_S)
            self._write.clear()
            await self._safely(self._flush())

    async def _flush(self) -> None:
        self._writing, self._unwritten = self._unwritten, {}
        used, self._used = self._used, set()
        try:
            if self._writing or used:
                await self._cache.keep(list(self._writing.values()), sorted(used))
        finally:
            self._writing = {}
        if len(self._names) > self._bounds.entries or self._bytes > self._bounds.bytes:
            await self._trim()

    async def _trim(self) -> None:
        size = await self._cache.trim(self._bounds)
        self._bytes, self._names, self._last = size.bytes, set(self._unwritten), 0
        await self._learn()

    async def _learn(self) -> None:
        told = await self._cache.names(self._last)
        self._last = told.last
        self._names.update(told.names)

    async def _safely(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except StoreUnavailable as error:
            if not self._failed:
                log.warning("the result cache cannot be used; work is done again", error=str(error))
            self._failed = True
        else:
            self._failed = False
