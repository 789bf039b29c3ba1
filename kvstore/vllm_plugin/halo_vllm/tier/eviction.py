"""Which kept blocks give way to new ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

#: Making room costs a look at every file, so more room is made than is needed now.
SPARE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class KeptFile:
    path: str
    size_bytes: int
    last_used_ns: int


def to_evict(files: Iterable[KeptFile], capacity_bytes: int, new_bytes: int) -> list[KeptFile]:
    """The least recently used files, so many that `new_bytes` and a little more fit; none where they fit already.

    Ties go by path, so that every process makes the same choice.
    """
    oldest_first = sorted(files, key=attrgetter("last_used_ns", "path"))
    kept_bytes = sum(file.size_bytes for file in oldest_first)
    if kept_bytes + new_bytes <= capacity_bytes:
        return []
    allowed_bytes = capacity_bytes - max(new_bytes, int(capacity_bytes * SPARE_SHARE))
    leaving = []
    for file in oldest_first:
        if kept_bytes <= allowed_bytes:
            break
        leaving.append(file)
        kept_bytes -= file.size_bytes
    return leaving
