"""Writes blocks to the folder beside the engine's work."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_log = logging.getLogger(__name__)

#: Copies that wait to be written; while there are more, finished prompts are not kept.
MAX_WAITING_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """The blocks of some finished prompts, as rows of bytes."""

    blocks: Sequence[tuple[bytes, memoryview]]
    size_bytes: int


class BehindWriter:
    """One thread that writes; `write` is told the blocks and may raise `OSError`."""

    def __init__(self, write: Callable[[Sequence[tuple[bytes, memoryview]]], int]) -> None:
        self._write = write
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="halo-kv-tier", daemon=True)
        self._thread.start()

    @property
    def room_bytes(self) -> int:
        return max(0, MAX_WAITING_BYTES - self._waiting_bytes)

    def put(self, batch: Batch) -> None:
        with self._lock:
            self._waiting_bytes += batch.size_bytes
        self._waiting.put(batch)

    def close(self) -> None:
        """Writes what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._waiting.get()) is not None:
            try:
                self._write(batch.blocks)
            except OSError as problem:
                self._tell(problem)
            with self._lock:
                self._waiting_bytes -= batch.size_bytes

    def _tell(self, problem: OSError) -> None:
        """Once: a full disk stays full, and the engine works without its tier."""
        if not self._told:
            _log.warning("KV blocks are not kept: %s. Lower `capacity_gib`, or give the host more memory.", problem)
            self._told = True
