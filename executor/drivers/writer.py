"""Grouped commits: while one transaction runs, what comes in waits for the next."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from executor.clock import Clock
from executor.store.port import Claim, Fenced, Store, StoreUnavailable, Write
from planner.ir.ids import JobId

MAX_WAITING = 5000
LONGEST_RETRY_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Batch:
    claim: Claim
    writes: list[Write] = field(default_factory=list)


class Writer:
    """Writes reach the store in the order they were added, each job's in transactions of its own.

    `on_fenced` is told once of a job somebody else holds now; what is still to be written for it is thrown away.
    A store that cannot be reached is asked again until it answers: nothing accepted is lost.
    """

    def __init__(self, store: Store, clock: Clock, on_fenced: Callable[[JobId], None]) -> None:
        self._store, self._clock, self._on_fenced = store, clock, on_fenced
        self._batches: dict[JobId, _Batch] = {}
        self._waiting = 0
        self._committing: Claim | None = None
        self._fenced: set[Claim] = set()
        self._changed = asyncio.Condition()
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def crowded(self) -> bool:
        return self._waiting >= MAX_WAITING

    def add(self, claim: Claim, write: Write) -> None:
        if claim in self._fenced:
            return
        self._batches.setdefault(claim.job, _Batch(claim)).writes.append(write)
        self._waiting += 1
        self._wake.set()

    async def room(self) -> None:
        """Returns when not too much waits to be written."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting < MAX_WAITING)

    async def flush(self, claim: Claim) -> None:
        """Returns when everything added so far for the job is committed, or thrown away because of a fence."""
        async with self._changed:
            await self._changed.wait_for(lambda: claim.job not in self._batches and self._committing != claim)

    async def close(self) -> None:
        """Commits what waits, then stops. Cancelled before that, it stops at once."""
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._batches and self._committing is None)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._batches:
                batch = self._batches.pop(next(iter(self._batches)))
                self._committing = batch.claim
                await self._commit(batch)
                self._committing = None
                self._waiting -= len(batch.writes)
                async with self._changed:
                    self._changed.notify_all()

    async def _commit(self, batch: _Batch) -> None:
        delay_s = 0.1
        while True:
            try:
                await self._store.write(batch.claim, batch.writes)
                return
            except Fenced:
                self._fenced.add(batch.claim)
                self._on_fenced(batch.claim.job)
                return
            except StoreUnavailable as error:
                log.warning("store unavailable, writes wait", error=str(error), waiting=self._waiting)
                await self._clock.sleep(delay_s)
                delay_s = min(LONGEST_RETRY_S, delay_s * 2)
