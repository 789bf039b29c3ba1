"""The store in an SQL database: SQLite in one file, or PostgreSQL shared by replicas."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import Connection, select

from executor.store import accepting, claims, drains, loading, migrating, reading, sweeping, writing
from executor.store.database import LOCK_WAIT_S, Database, database_url
from executor.store.failures import JobUnknown
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
from executor.store.migrating import upgrade
from executor.store.sql_cache import SqlResultCache
from executor.store.told import ResultRow, Served, StoredDecision, StoredEvent
from executor.store.writes import Write
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.measured import CallSpan, Tally

__all__ = ["SqlStore", "open_store", "upgrade"]


async def open_store(url: str, lock_wait_s: float = LOCK_WAIT_S) -> "SqlStore":
    """Open the database at `sqlite:///path` or `postgresql://user@host/database`.

    A SQLite file is made, and brought up to date, as needed. PostgreSQL, which others may be using, is refused unless
    `upgrade` has brought it up to date. A SQLite writer waits `lock_wait_s` for one in another process, and so long
    a connection to PostgreSQL may take. Raises `StoreRefused`, `StoreUnavailable`.
    """
    database = Database(database_url(url), lock_wait_s)
    try:
        if database.is_sqlite:
            await migrating.migrate(database)
        await migrating.check(database)
    except BaseException:
        await database.close()
        raise
    return SqlStore(database)


class SqlStore:
    """A `Store`. Every method raises `StoreUnavailable` when the database cannot do it just now; then nothing was
    done, or all of it was and doing it again changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.result_cache = SqlResultCache(database)

    async def create_job(self, job: NewJob) -> JobRecord:
        rows = await asyncio.to_thread(accepting.program_rows, job)
        return await self._database.write(accepting.create_job, job, rows)

    async def accepted(self, job: NewJob) -> JobRecord | None:
        return await self._database.read(accepting.accepted, job)

    async def claim(
        self, owner: str, lease_s: float, job: JobId | None = None, weights: Weights = EQUAL_WEIGHTS
    ) -> Claim | None:
        return await self._database.write(claims.claim, owner, lease_s, job, weights)

    async def renew(self, owner: str, lease_s: float) -> Sequence[JobId]:
        return await self._database.write(claims.renew, owner, lease_s)

    async def release(self, claim: Claim) -> None:
        await self._database.write(claims.release, claim)

    async def load(self, claim: Claim) -> JobContents:
        return await self._database.read(loading.load, claim)

    async def saved(self, claim: Claim, rows: Sequence[int]) -> Mapping[int, SavedProgram]:
        return await self._database.read(loading.saved, claim, rows)

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        await self._database.write(writing.write, claim, tuple(writes))

    async def job(self, job: JobId, tenant: str | None = None) -> JobRecord:
        return await self._database.read(reading.job, job, tenant)

    async def jobs(
        self,
        tenant: str | None = None,
        status: JobStatus | None = None,
        workflow: str | None = None,
        before: JobId | None = None,
        limit: int = 50,
    ) -> Sequence[JobRecord]:
        return await self._database.read(reading.list_jobs, tenant, status, workflow, before, limit)

    async def request_cancel(self, job: JobId, tenant: str | None = None) -> JobRecord:
        return await self._database.write(claims.request_cancel, job, tenant)

    async def cancels_requested(self, owner: str) -> Sequence[JobId]:
        return await self._database.read(claims.cancels_requested, owner)

    async def results(self, job: JobId, after_row: int = -1) -> AsyncIterator[ResultRow]:
        record = await self.job(job)
        while after_row < record.rows - 1:
            page = await self._database.read(reading.results_page, job, after_row)
            if not page:
                raise JobUnknown(f"Job {job} was forgotten meanwhile.")
            for row in page:
                yield row
            after_row = page[-1].row

    async def events(self, job: JobId, after_seq: int = 0, limit: int = 1000) -> Sequence[StoredEvent]:
        return await self._database.read(reading.job_events, job, after_seq, limit)

    async def decisions(
        self, job: JobId, after_seq: int = 0, limit: int = 1000, row: int | None = None, path: str | None = None
    ) -> Sequence[StoredDecision]:
        return await self._database.read(reading.job_decisions, job, after_seq, limit, row, path)

    async def usage(self, job: JobId) -> Mapping[str, int]:
        return await self._database.read(reading.usage, job)

    async def pending(self) -> Sequence[Pending]:
        return await self._database.read(reading.pending)

    async def definition(self, job: JobId) -> JobDefinition:
        return await self._database.read(reading.definition, job)

    async def tallies(self, job: JobId) -> Sequence[Tally]:
        return await self._database.read(reading.tallies, job)

    async def call_spans(self, job: JobId) -> Sequence[CallSpan]:
        return await self._database.read(reading.call_spans, job)

    async def served(self, seconds: float) -> Sequence[Served]:
        return await self._database.read(reading.served, seconds)

    async def seen(self, workflow: str, tenant: str = "default", limit: int = 5000) -> Sequence[Seen]:
        return await self._database.read(reading.seen, workflow, tenant, limit)

    async def forgettable(self, older_than_s: float) -> Sequence[JobId]:
        return await self._database.read(sweeping.forgettable, older_than_s)

    async def forget(self, jobs: Sequence[JobId]) -> None:
        await self._database.write(sweeping.forget, jobs)

    async def erase(self, rows: int) -> int:
        return await self._database.write(sweeping.erase, rows)

    async def drain(self, engine: EngineId, operator: str) -> None:
        await self._database.write(drains.drain, engine, operator)

    async def resume(self, engine: EngineId) -> None:
        await self._database.write(drains.resume, engine)

    async def drained(self) -> Sequence[EngineId]:
        return await self._database.read(drains.drained)

    async def ping(self) -> None:
        await self._database.read(_ping)

    async def close(self) -> None:
        await self._database.close()


def _ping(connection: Connection) -> None:
    connection.execute(select(1))
