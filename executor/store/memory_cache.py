"""The result cache in this process."""

from collections.abc import Mapping, Sequence

from executor.store.result_cache import CacheBounds, CachedResult, CacheSize, Names


class MemoryResultCache:
    """A `ResultCache`. What was kept or used last stands last."""

    def __init__(self) -> None:
        self._kept: dict[str, CachedResult] = {}
        self._numbers: dict[str, int] = {}
        self._last = 0

    async def names(self, after: int = 0) -> Names:
        return Names([name for name, number in self._numbers.items() if number > after], self._last)

    async def find(self, names: Sequence[str]) -> Mapping[str, CachedResult]:
        return {name: self._kept[name] for name in names if name in self._kept}

    async def keep(self, results: Sequence[CachedResult], used: Sequence[str] = ()) -> None:
        for result in results:
            if result.name not in self._kept:
                self._last += 1
                self._kept[result.name], self._numbers[result.name] = result, self._last
        for name in used:
            if name in self._kept:
                self._kept[name] = self._kept.pop(name)

    async def trim(self, bounds: CacheBounds) -> CacheSize:
        size = self._size()
        if size.entries <= bounds.entries and size.bytes <= bounds.bytes:
            return size
        left = CacheSize(bounds.entries * 9 // 10, bounds.bytes * 9 // 10)
        for name in list(self._kept):
            if (size := self._size()).entries <= left.entries and size.bytes <= left.bytes:
                break
            self._drop(name)
        return self._size()

    async def forget(self, tenant: str | None = None) -> int:
        gone = [name for name, result in self._kept.items() if tenant in (None, result.tenant)]
        for name in gone:
            self._drop(name)
        return len(gone)

    def _drop(self, name: str) -> None:
        del self._kept[name], self._numbers[name]

    def _size(self) -> CacheSize:
        return CacheSize(len(self._kept), sum(result.bytes for result in self._kept.values()))
