"""What became of a deadline: met or missed, and by how much."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from executor.store.jobs import JobRecord
from executor.store.port import Store
from executor.store.records import unix_time
from executor.store.told import StoredEvent
from planner.ir.ids import JobId
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class Deadline:
    """A job that should be done `deadline_s` seconds after it was accepted and took `took_s`; of its rows, `rows_late`
    ended after that."""

    deadline_s: float
    took_s: float
    rows_late: int

    @property
    def met(self) -> bool:
        return self.took_s <= self.deadline_s

    @property
    def left_s(self) -> float:
        """What was left of it; below 0 where it was missed."""
        return self.deadline_s - self.took_s

    def as_json(self) -> dict[str, Json]:
        told: dict[str, Json] = {"deadline_s": self.deadline_s, "took_s": round(self.took_s, 3), "met": self.met}
        return {**told, "left_s": round(self.left_s, 3), "rows_late": self.rows_late}

    def as_text(self) -> str:
        if self.met:
            return f"deadline: met, {self.left_s:,.1f} s before its end"
        return f"deadline: missed by {-self.left_s:,.1f} s; rows that ended late: {self.rows_late:,}"


def took_s(record: JobRecord) -> float | None:
    """From acceptance to the end of the job; None before."""
    return None if record.ended_at is None else unix_time(record.ended_at) - unix_time(record.created_at)


async def deadline_of(store: Store, job: JobId) -> Deadline | None:
    """Of a job that has ended, where it had one."""
    record = await store.job(job)
    took = took_s(record)
    if record.deadline_s is None or took is None:
        return None
    late = 0 if took <= record.deadline_s else await _rows_late(store, record)
    return Deadline(record.deadline_s, took, late)


async def _rows_late(store: Store, record: JobRecord) -> int:
    assert record.deadline_s is not None
    due = unix_time(record.created_at) + record.deadline_s
    return sum([1 async for event in _events(store, record.id) if event.row is not None and unix_time(event.at) > due])


async def _events(store: Store, job: JobId) -> AsyncIterator[StoredEvent]:
    after = 0
    while page := await store.events(job, after):
        for event in page:
            yield event
        after = page[-1].seq
