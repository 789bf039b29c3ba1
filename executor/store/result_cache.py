"""The result cache port: what fixed work gave, kept across jobs. Bodies: in `sql` and `memory`; one contract test.

It holds copies only. Losing it, or any part of it, costs time and no result; so it may forget whatever it likes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from executor.store.port import Store
from executor.store.writes import Work


@dataclass(frozen=True, slots=True)
class CachedResult:
    """`name` is of whose, what work, by which revision of what; `output` is JSON text. `work` is what a hit saves.

    `by` is the model or the tool that gave it, for people.
    """

    name: str
    tenant: str
    by: str
    output: str
    work: Work

    @property
    def bytes(self) -> int:
        """What it is charged: its text in UTF-8, and a round sum for the rest."""
        text = self.output
        return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) + ROW_BYTES


#: Names, counters and index entries of one result.
ROW_BYTES = 250


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """How much is kept. What was not used for longest goes first; a larger result than `result_bytes` is not kept."""

    entries: int = 100_000
    bytes: int = 256 * 1024 * 1024
    result_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class CacheSize:
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Names:
    """Names of kept results. `last` asks, the next time, for those that came after them."""

    names: Sequence[str]
    last: int


class ResultCache(Protocol):
    """Any method may raise `StoreUnavailable`."""

    async def names(self, after: int = 0) -> Names:
        """All names, or those kept after the ones told before."""
        ...

    async def find(self, names: Sequence[str]) -> Mapping[str, CachedResult]:
        """Those that are kept, by name."""
        ...

    async def keep(self, results: Sequence[CachedResult], used: Sequence[str] = ()) -> None:
        """Keep results, and note that those named in `used` were of use. What is kept already stays as it is."""
        ...

    async def trim(self, bounds: CacheBounds) -> CacheSize:
        """How much is kept; when that is beyond the bounds, only after a tenth more than needed was forgotten."""
        ...

    async def forget(self, tenant: str | None = None) -> int:
        """Forget everything, or everything of one tenant: how many results that were."""
        ...


class CachingStore(Store, Protocol):
    """A store that has a result cache beside its jobs."""

    @property
    def result_cache(self) -> ResultCache: ...
