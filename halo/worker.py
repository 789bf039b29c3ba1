"""Takes jobs from the store and runs them, as many at once as it may, together with any number of other workers."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.engines.port import Failure, FailureClass
from executor.store.failures import Fenced, JobUnknown, StoreUnavailable
from executor.store.jobs import EQUAL_WEIGHTS, Claim, Weights
from executor.store.port import Store
from executor.store.writes import JobEnded, ProgramEnded, Write
from kvstore.program_state import ProgramStates, StateUnavailable
from planner.errors import PlanError, PlanInvalid, PlanUnreadable, RowsInvalid
from planner.ir.ids import JobId

#: A job that broke Halo itself so often is given up.
MOST_ATTEMPTS = 3
LONGEST_RETRY_S = 10.0

_CODES = {PlanUnreadable: "plan_unreadable", PlanInvalid: "plan_invalid", RowsInvalid: "rows_invalid"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """`jobs` run at once. Without a wake-up the store is asked for more every `poll_s`; every `look_s` it is asked
    which jobs shall be cancelled. A claim is for `lease_s`; a `LeaseKeeper` renews it. Tenants take turns by `weights`.
    """

    jobs: int = 64
    lease_s: float = 15.0
    poll_s: float = 1.0
    look_s: float = 1.0
    weights: Weights = EQUAL_WEIGHTS


class Worker:
    """Runs until its task is cancelled; what is unfinished then is given back, so that anybody may go on with it.

    `on_end` is told of each job that ended here. `owner` must be no other worker's (`owner_name`).
    """

    def __init__(
        self,
        store: Store,
        states: ProgramStates,
        driver: LiveDriver,
        owner: str,
        pace: Pace | None = None,
        on_end: Callable[[JobId], None] = lambda job: None,
    ) -> None:
        self._store, self._states, self._driver, self._owner = store, states, driver, owner
        self._pace = pace or Pace()
        self._on_end = on_end
        self._room = asyncio.Semaphore(self._pace.jobs)
        self._running: dict[JobId, asyncio.Task[None]] = {}
        #: Held from the store's giving a job until it is in `_running`: who counts must see both or neither.
        self._taking = asyncio.Lock()

    async def run(self) -> None:
        """Raises an `ExceptionGroup` when Halo itself is broken; a failed job is no reason to."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_jobs(group))
            group.create_task(self._pass_cancels_on())
            group.create_task(self._find_lost(group))

    @property
    def running(self) -> int:
        return len(self._running)

    async def _take_jobs(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._room.acquire()
            if not await self._take(group):
                self._room.release()
                await self._until_woken()

    async def _take(self, group: asyncio.TaskGroup, job: JobId | None = None) -> bool:
        """Whether there was a job to start; its end gives the room back."""
        async with self._taking:
            try:
                claim = await self._store.claim(self._owner, self._pace.lease_s, job, self._pace.weights)
            except StoreUnavailable as error:
                log.warning("no jobs to be had", error=str(error))
                return False
            if claim is not None:
                before = self._running.get(claim.job)
                self._running[claim.job] = group.create_task(self._run(claim, before))
        return claim is not None

    async def _until_woken(self) -> None:
        try:
            await self._states.wait_for_wake(self._pace.poll_s)
        except StateUnavailable:
            await asyncio.sleep(self._pace.poll_s)

    async def _run(self, claim: Claim, before: "asyncio.Task[None] | None") -> None:
        try:
            if before is not None:
                await self._end_stale(claim.job, before)
            await self._run_to_end(claim)
        except asyncio.CancelledError:
            await self._give_back(claim)
            raise
        finally:
            if self._running.get(claim.job) is asyncio.current_task():
                del self._running[claim.job]
            self._room.release()
            self._on_end(claim.job)

    async def _end_stale(self, job: JobId, before: "asyncio.Task[None]") -> None:
        """Our own lease ran out and we took the job again: the run under the old one can write nothing any more."""
        self._driver.cancel(job)
        await asyncio.wait([before])

    async def _run_to_end(self, claim: Claim) -> None:
        delay_s = 0.1
        while True:
            try:
                status = await self._driver.run(claim)
            except (Fenced, JobUnknown) as error:
                log.info("job dropped", job=claim.job, why=str(error))
            except PlanError as error:
                await self._fail(claim, _CODES.get(type(error), "plan_refused"), str(error))
            except StoreUnavailable as error:
                log.warning("job cannot be loaded", job=claim.job, error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(LONGEST_RETRY_S, delay_s * 2)
                continue
            except Exception as error:
                await self._broke(claim, error)
                raise
            else:
                log.info("job ended", job=claim.job, status=status.value)
            return

    async def _broke(self, claim: Claim, error: Exception) -> None:
        """Halo itself failed. A job that this befalls again and again must not stop all others for ever."""
        log.error("halo failed", job=claim.job, attempt=claim.attempt, exc_info=error)
        if claim.attempt >= MOST_ATTEMPTS:
            await self._fail(claim, "internal_error", f"Halo failed {claim.attempt} times on this run; see its log")
        else:
            await self._give_back(claim)

    async def _fail(self, claim: Claim, code: str, message: str) -> None:
        """Every program of the job that has not ended gets the failure."""
        failure = Failure(FailureClass.ROW, code, message)
        try:
            rows = (await self._store.job(claim.job)).rows
            ended: list[Write] = [ProgramEnded(row, Status.FAILED, None, failure) for row in range(rows)]
            await self._store.write(claim, [*ended, JobEnded(Status.FAILED)])
        except (Fenced, StoreUnavailable) as error:
            log.warning("failure of a job not written", job=claim.job, error=str(error))
            return
        log.warning("job failed", job=claim.job, code=code)

    async def _give_back(self, claim: Claim) -> None:
        """Unless the driver has the job: it commits what is finished, and gives the job back, when it closes."""
        if self._driver.progress(claim.job) is None:
            try:
                await self._store.release(claim)
            except StoreUnavailable as error:
                log.warning("job not given back; its lease will run out", job=claim.job, error=str(error))

    async def _pass_cancels_on(self) -> None:
        while True:
            await asyncio.sleep(self._pace.look_s)
            if not self._running:
                continue
            try:
                for job in await self._store.cancels_requested(self._owner):
                    self._driver.cancel(job)
            except StoreUnavailable as error:
                log.warning("cancels cannot be seen", error=str(error))

    async def _find_lost(self, group: asyncio.TaskGroup) -> None:
        """A claim whose answer got lost on the way is ours, and would be held for ever without being run."""
        while True:
            await asyncio.sleep(self._pace.lease_s / 3)
            for job in await self._lost():
                await self._room.acquire()
                if not await self._take(group, job):
                    self._room.release()

    async def _lost(self) -> list[JobId]:
        async with self._taking:
            try:
                held = await self._store.renew(self._owner, self._pace.lease_s)
            except StoreUnavailable as error:
                log.warning("leases cannot be seen", error=str(error))
                return []
            return [job for job in held if job not in self._running]


def owner_name() -> str:
    """A name no other process has, and that people can find."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
