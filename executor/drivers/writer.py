"""Grouped commits: what comes in while one transaction runs, or shortly after it, waits for the next."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from executor.clock import Clock
from executor.store.failures import Fenced, StoreUnavailable
from executor.store.jobs import Claim
from executor.store.port import Store
from executor.store.writes import NodeOutput, ToolBegun, Write
from planner.ir.ids import JobId

MAX_WAITING = 5000
LONGEST_RETRY_S = 10.0
#: A commit costs a sync of the disk and some 2 ms of CPU; a crash takes back no more finished work than this.
COMMIT_EVERY_S = 0.2

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Batch:
    claim: Claim
    writes: list[Write] = field(default_factory=list)


class Writer:
    """Writes reach the store in the order they were added, each job's in transactions of its own.

    Transactions begin no closer than `every_s` to each other, unless somebody waits for one.

    `on_fenced` is told once of a job somebody else holds now; what is still to be written for it is thrown away.
    A store that cannot be reached is asked again until it answers: nothing accepted is lost. What an `unsafe` tool
    gave is committed at once: until then a crash leaves a program that needs attention.
    """

    def __init__(
        self, store: Store, clock: Clock, on_fenced: Callable[[JobId], None], every_s: float = COMMIT_EVERY_S
    ) -> None:
        self._store, self._clock, self._on_fenced, self._every_s = store, clock, on_fenced, every_s
        self._batches: dict[JobId, _Batch] = {}
        self._waiting = 0
        self._committing: Claim | None = None
        self._fenced: set[Claim] = set()
        self._unsafe: set[tuple[JobId, int, str]] = set()
        self._changed = asyncio.Condition()
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._last_s = float("-inf")
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
        if self.crowded or self._ends_unsafe_tool(claim, write):
            self._hurry.set()

    async def room(self) -> None:
        """Returns when not too much waits to be written."""
        self._hurry.set()
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting < MAX_WAITING)

    async def flush(self, claim: Claim) -> bool:
        """Returns when all that was added for the job is committed (True) or thrown away because of a fence (False)."""
        self._hurry.set()
        async with self._changed:
            await self._changed.wait_for(lambda: claim.job not in self._batches and self._committing != claim)
        return claim not in self._fenced

    async def close(self) -> None:
        """Commits what waits, then stops. Cancelled before that, it stops at once."""
        self._hurry.set()
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
                await self._until_due()
                batch = self._batches.pop(next(iter(self._batches)))
                self._committing = batch.claim
                await self._commit(batch)
                self._committing = None
                self._waiting -= len(batch.writes)
                async with self._changed:
                    self._changed.notify_all()
            self._hurry.clear()

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._last_s + self._every_s):
                await self._hurry.wait()
        self._last_s = asyncio.get_running_loop().time()

    def _ends_unsafe_tool(self, claim: Claim, write: Write) -> bool:
        match write:
            case ToolBegun(row=row, path=path):
                self._unsafe.add((claim.job, row, path))
                return False
            case NodeOutput(row=row, path=path) if (claim.job, row, path) in self._unsafe:
                self._unsafe.discard((claim.job, row, path))
                return True
        return False

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
