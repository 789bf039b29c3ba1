"""The kept blocks as files in host memory, shared by every engine of the host that opens the same folder.

    <root>/ledger              how many bytes all layouts take together; its lock is held by whoever changes them
    <root>/<fingerprint>/      one layout: `layout.json` says which, `alive` is locked by every process that uses it
    <root>/<fingerprint>/<block hash>.<rank>

A file's time of last change is the block's last use. Files come whole or not at all: they are written beside their
name and then renamed, and what a dead writer left is removed by the next who counts.
"""

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from halo_vllm.tier.block_file import HEADER_BYTES, BlockLabel, encode_header, fault_of
from halo_vllm.tier.eviction import KeptFile, to_evict
from halo_vllm.tier.layout import KvLayout

_LEDGER, _ALIVE, _ABOUT, _UNFINISHED = "ledger", "alive", "layout.json", ".new"
_OWN_FILES = frozenset((_ALIVE, _ABOUT))


class TierUnusable(ValueError):
    """The folder cannot keep blocks safely; the message says what to change."""


class TierFolder:
    """The blocks of one layout. Any process may open it; `clock_ns` is the time of day that all of them share."""

    def __init__(self, root: Path, layout: KvLayout, capacity_bytes: int, clock_ns: Callable[[], int]) -> None:
        self._root, self._layout, self._capacity = root, layout, capacity_bytes
        self._clock_ns = clock_ns
        self._home = root / layout.fingerprint
        self._prefix = f"{self._home}/"
        self._file_bytes = HEADER_BYTES + layout.block_bytes
        self._alive = -1

    @property
    def layout(self) -> KvLayout:
        return self._layout

    def open(self) -> None:
        """Makes the folder, drops layouts that no living process uses, and counts what is there.

        Raises `TierUnusable` where somebody else could read or write the blocks, or not one of them would fit.
        """
        self._refuse_tiny()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_foreign()
        with self._ledger() as ledger:
            self._home.mkdir(mode=0o700, exist_ok=True)
            (self._home / _ABOUT).write_text(json.dumps(asdict(self._layout), indent=1))
            self._alive = os.open(self._home / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_SH)
            self._drop_deserted()
            _write_count(ledger, sum(file.size_bytes for file in self._counted()))

    def close(self) -> None:
        """The blocks stay for whoever opens the layout next."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def holds(self, block_hash: bytes) -> bool:
        """Whether every rank's share of the block is there, and is as long as it must be."""
        try:
            return all(os.stat(path).st_size == self._file_bytes for path in self._paths(block_hash))
        except OSError:
            return False

    def use(self, block_hashes: Sequence[bytes]) -> list[int]:
        """Marks the blocks of one prompt as used now, the first as the latest. Returns the places of those missing."""
        now_ns = self._clock_ns()
        return [place for place, block in enumerate(block_hashes) if not self._touch(block, now_ns - place)]

    def read(self, block_hash: bytes, rank: int, payload: memoryview) -> str | None:
        """Fills `payload` with one rank's share of a block. Returns why it cannot; then the bytes mean nothing.

        What is there but wrong is removed.
        """
        label, header = self._label(block_hash, rank), bytearray(HEADER_BYTES)
        path = self._path(label)
        try:
            with open(path, "rb", buffering=0) as file:
                read = os.readv(file.fileno(), [header, payload])
                longer = read == self._file_bytes and bool(file.read(1))
        except OSError as problem:
            return problem.strerror or str(problem)
        fault = "of another length" if read != self._file_bytes or longer else fault_of(label, header, payload)
        if fault is not None:
            _remove(path)
        return fault

    def write(self, rank: int, blocks: Sequence[tuple[bytes, memoryview]]) -> int:
        """Keeps one rank's share of a prompt's blocks, the first as the latest used. Returns how many were kept.

        Others give way where room is needed; what is more than the capacity is left out from the end. Raises
        `OSError` where the host has no room.
        """
        new = [block for block in blocks if not os.path.exists(self._path(self._label(block[0], rank)))]
        fitting = new[: self._capacity // self._file_bytes]
        if not fitting:
            return 0
        with self._ledger() as ledger:
            kept_bytes = self._make_room(_read_count(ledger), len(fitting) * self._file_bytes)
            _write_count(ledger, kept_bytes + len(fitting) * self._file_bytes)
            now_ns = self._clock_ns()
            for place, (block, payload) in enumerate(fitting):
                self._put(self._label(block, rank), payload, now_ns - place)
        return len(fitting)

    def clear(self) -> None:
        """Drops every block of this layout."""
        with self._ledger() as ledger:
            for file in self._files_of(self._home):
                _remove(file.path)
            _write_count(ledger, sum(file.size_bytes for file in self._counted()))

    def kept_bytes(self) -> int:
        """What all layouts take together, counted anew."""
        with self._ledger() as ledger:
            kept = sum(file.size_bytes for file in self._counted())
            _write_count(ledger, kept)
        return kept

    def _make_room(self, kept_bytes: int, new_bytes: int) -> int:
        """What is kept once `new_bytes` fit beside it. The count may be too high, never too low, so it is renewed."""
        if kept_bytes + new_bytes <= self._capacity:
            return kept_bytes
        files = list(self._counted())
        leaving = to_evict(files, self._capacity, new_bytes)
        for file in leaving:
            _remove(file.path)
        return sum(file.size_bytes for file in files) - sum(file.size_bytes for file in leaving)

    def _put(self, label: BlockLabel, payload: memoryview, used_ns: int) -> None:
        path = self._path(label)
        unfinished = f"{path}{_UNFINISHED}"
        try:
            with open(unfinished, "wb", buffering=0, opener=_private) as file:
                if os.writev(file.fileno(), [encode_header(label, payload), payload]) != self._file_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.utime(file.fileno(), ns=(used_ns, used_ns))
            os.rename(unfinished, path)
        except OSError:
            _remove(unfinished)
            raise

    def _touch(self, block_hash: bytes, used_ns: int) -> bool:
        try:
            for path in self._paths(block_hash):
                os.utime(path, ns=(used_ns, used_ns))
        except OSError:
            return False
        return True

    def _counted(self) -> Iterator[KeptFile]:
        """Every kept file of every layout. Only under the ledger's lock, so a file without its name has no writer."""
        for home in _folders(self._root):
            for file in self._files_of(home):
                if file.path.endswith(_UNFINISHED):
                    _remove(file.path)
                else:
                    yield file

    @staticmethod
    def _files_of(home: Path) -> Iterable[KeptFile]:
        with os.scandir(home) as entries:
            for entry in entries:
                if entry.name in _OWN_FILES:
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield KeptFile(entry.path, status.st_size, status.st_mtime_ns)

    def _drop_deserted(self) -> None:
        for home in _folders(self._root):
            if home != self._home and _is_deserted(home):
                shutil.rmtree(home)

    @contextmanager
    def _ledger(self) -> Iterator[int]:
        """The one lock of the folder; a process that dies lets go of it."""
        ledger = os.open(self._root / _LEDGER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger
        finally:
            os.close(ledger)

    def _paths(self, block_hash: bytes) -> Iterator[str]:
        return (self._path(self._label(block_hash, rank)) for rank in range(self._layout.ranks))

    def _path(self, label: BlockLabel) -> str:
        return self._prefix + label.file_name

    def _label(self, block_hash: bytes, rank: int) -> BlockLabel:
        return BlockLabel(self._layout.fingerprint, block_hash, rank)

    def _refuse_tiny(self) -> None:
        if self._capacity < self._file_bytes:
            raise TierUnusable(
                f"a capacity of {self._capacity:,} bytes holds no KV block of {self._file_bytes:,} bytes: "
                "raise `capacity_gib` in kv_connector_extra_config"
            )

    def _refuse_foreign(self) -> None:
        """Prompts can be guessed from KV bytes, and answers changed by them."""
        status = self._root.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise TierUnusable(
                f"{self._root} is not a folder that only this user may enter: remove it, or name another one by "
                "`folder` in kv_connector_extra_config"
            )


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]


def _is_deserted(home: Path) -> bool:
    alive = os.open(home / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(alive)
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _read_count(ledger: int) -> int:
    return int.from_bytes(os.pread(ledger, 8, 0), "little")


def _write_count(ledger: int, count: int) -> None:
    os.pwrite(ledger, count.to_bytes(8, "little"), 0)
