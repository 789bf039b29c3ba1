"""The store port: what is promised to survive. Bodies: `sql` (SQLite, PostgreSQL) and `memory`; one contract test.

Rules (each holds in every body):
- Accepted is committed: `create_job` returns after the job, its rows and its idempotency key stand together.
- Unique keys make results exactly-once: one row per (job, row), one output per (job, row, path), one job per
  (tenant, idempotency key).
- A claim raises the job's attempt; every later write of another attempt is refused whole (`Fenced`).
- Lease time is the database's clock.
- Status only moves forward: queued -> running -> succeeded | failed | cancelled.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from executor.store.jobs import (
    EQUAL_WEIGHTS,
    Claim,
    JobContents,
    JobDefinition,
    JobRecord,
    JobStatus,
    NewJob,
    Pending,
    SavedProgram,
    Weights,
)
from executor.store.told import ResultRow, Served, StoredDecision, StoredEvent
from executor.store.writes import Write
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.measured import CallSpan, Tally


class Store(Protocol):
    async def create_job(self, job: NewJob) -> JobRecord:
        """Accept a job. With a known idempotency key and equal hash: the job accepted then. `IdempotencyConflict`."""
        ...

    async def accepted(self, job: NewJob) -> JobRecord | None:
        """The job that `create_job` would give instead of a new one, None if it would be new. `IdempotencyConflict`."""
        ...

    async def claim(
        self, owner: str, lease_s: float, job: JobId | None = None, weights: Weights = EQUAL_WEIGHTS
    ) -> Claim | None:
        """Take that job, or the next that is queued or whose lease ran out; None if there is none.

        The next is of the tenant with the fewest jobs under a live lease over its weight, then the first by (priority,
        age): a tenant with thousands of jobs and one with a single job take turns. A job already held by a live lease
        of another owner is not given; the same owner's own is given again.
        """
        ...

    async def renew(self, owner: str, lease_s: float) -> Sequence[JobId]:
        """Prolong all leases of the owner: the jobs still held."""
        ...

    async def release(self, claim: Claim) -> None:
        """Give an unfinished job back, so that anybody may claim it at once."""
        ...

    async def load(self, claim: Claim) -> JobContents: ...

    async def saved(self, claim: Claim, rows: Sequence[int]) -> Mapping[int, SavedProgram]:
        """What is stored of these rows' programs, whether they ended or not; rows of which nothing is are left out."""
        ...

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        """All of it in one transaction, or `Fenced`. Writing what is already there changes nothing."""
        ...

    async def job(self, job: JobId, tenant: str | None = None) -> JobRecord:
        """`JobUnknown` when there is none, or when it is not the tenant's."""
        ...

    async def jobs(
        self,
        tenant: str | None = None,
        status: JobStatus | None = None,
        workflow: str | None = None,
        before: JobId | None = None,
        limit: int = 50,
    ) -> Sequence[JobRecord]:
        """Newest first; `before` is the last id of the page before."""
        ...

    async def request_cancel(self, job: JobId, tenant: str | None = None) -> JobRecord:
        """Idempotent. A queued job is cancelled at once; a running one by its holder (see `cancel_requested`)."""
        ...

    async def cancels_requested(self, owner: str) -> Sequence[JobId]:
        """Running jobs of the owner that somebody asked to cancel."""
        ...

    def results(self, job: JobId, after_row: int = -1) -> AsyncIterator[ResultRow]:
        """Every row in order, a page at a time behind the scenes."""
        ...

    async def events(self, job: JobId, after_seq: int = 0, limit: int = 1000) -> Sequence[StoredEvent]: ...

    async def decisions(
        self, job: JobId, after_seq: int = 0, limit: int = 1000, row: int | None = None, path: str | None = None
    ) -> Sequence[StoredDecision]:
        """In the order they were made: of all the job's nodes, or of those of a row or at a path."""
        ...

    async def usage(self, job: JobId) -> Mapping[str, int]:
        """Sums over the stored nodes, by the names in `MADE`, `SAVED` and `RECALLED`."""
        ...

    async def pending(self) -> Sequence[Pending]:
        """The programs of all jobs that have not ended, and have not themselves."""
        ...

    async def definition(self, job: JobId) -> JobDefinition:
        """`JobUnknown` when there is none."""
        ...

    async def tallies(self, job: JobId) -> Sequence[Tally]:
        """What the stored nodes took, path by path, in order of (path, how)."""
        ...

    async def call_spans(self, job: JobId) -> Sequence[CallSpan]:
        """The calls made, in order of (begun, ended, path); those of which no time is stored are left out."""
        ...

    async def served(self, seconds: float) -> Sequence[Served]:
        """What engines answered in the last so many seconds, for all jobs, in order of the engines' ids. When a call
        ended is told by the clock of the process that made it."""
        ...

    async def seen(self, workflow: str, tenant: str = "default", limit: int = 5000) -> Sequence[Seen]:
        """The calls and runs of tools that the newest jobs of the tenant's workflow made, newest jobs first.

        What was shared or recalled took nothing and is left out, as is that of which no time is stored.
        """
        ...

    async def forgettable(self, older_than_s: float) -> Sequence[JobId]:
        """Jobs that ended longer ago than that, the oldest first; none whose outputs a job that has not ended reads."""
        ...

    async def forget(self, jobs: Sequence[JobId]) -> None:
        """From now on none of these that has ended is there for anybody; `erase` deletes what is stored of them.

        One that has not ended stays as it is. The idempotency key of one that is gone may be used for another. What the
        result cache holds of it stays there.
        """
        ...

    async def erase(self, rows: int) -> int:
        """Delete about so many rows of forgotten jobs in one transaction: how many it were, 0 once nothing is left."""
        ...

    async def drain(self, engine: EngineId, operator: str) -> None:
        """Whoever asks is told from now on that the engine is drained; it may be already."""
        ...

    async def resume(self, engine: EngineId) -> None:
        """The engine is drained no more; it may never have been."""
        ...

    async def drained(self) -> Sequence[EngineId]:
        """The engines that operators took out, in order."""
        ...

    async def ping(self) -> None:
        """Raises when the database cannot be reached."""
        ...

    async def close(self) -> None: ...
