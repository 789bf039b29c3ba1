"""Tells those who wait for a run of this process that it has ended."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from planner.ir.ids import JobId


class Endings:
    """For one event loop. A run that another process ends is not told here: look at the store from time to time."""

    def __init__(self) -> None:
        self._waiting: dict[JobId, list[asyncio.Event]] = {}
        self.closed = False

    @contextmanager
    def watch(self, job: JobId) -> Iterator[asyncio.Event]:
        """An event that is set when the job ends, from now on; look at the store after this, so that none is missed."""
        event = asyncio.Event()
        if self.closed:
            event.set()
        self._waiting.setdefault(job, []).append(event)
        try:
            yield event
        finally:
            self._waiting[job].remove(event)
            if not self._waiting[job]:
                del self._waiting[job]

    def tell(self, job: JobId) -> None:
        for event in self._waiting.get(job, ()):
            event.set()

    def close(self) -> None:
        """Nobody waits any longer: the service goes down."""
        self.closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()
