"""Between the port's values and what the columns hold."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from executor.commands import Status
from executor.engines.port import Failure, FailureClass
from executor.slo import SloClass
from executor.store.jobs import JobRecord, JobStatus
from executor.store.writes import MADE, RECALLED, RESULT_CACHE, SAVED, NodeOutput
from planner.ir.ids import JobId
from planner.ir.values import Json

PENDING = "pending"
ENDED = tuple(status.value for status in Status)
_LARGEST_COUNT = 2**53

#: Compact, and the columns of a row stay in order. Raises `ValueError` for what JSON cannot hold.
encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def decode_page(texts: Sequence[str]) -> list[Json]:
    """Many JSON texts at once: quicker than one by one, and equal keys become one string in memory."""
    page: list[Json] = json.loads(f"[{','.join(texts)}]")
    return page


def countable(count: int) -> int:
    """An engine may report any number; one that a column cannot hold must not lose a whole group of writes."""
    return count if 0 <= count < _LARGEST_COUNT else 0


def counted(outputs: Iterable[NodeOutput]) -> dict[str, int]:
    """What these nodes add to the sums of their job."""
    sums = dict.fromkeys((*MADE, *SAVED, *RECALLED), 0)
    for output in outputs:
        for name in MADE:
            for key in _sums_of(name, output):
                if key in sums:
                    sums[key] += countable(getattr(output.work, name))
    return sums


def _sums_of(name: str, output: NodeOutput) -> tuple[str, ...]:
    if output.shared_from is None:
        return (name,)
    return (f"saved_{name}", f"recalled_{name}") if output.shared_from == RESULT_CACHE else (f"saved_{name}",)


def encode_failure(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    return json.dumps([failure.failure_class.value, failure.code, failure.message, failure.retry_after_s])


def decode_failure(stored: str | None) -> Failure | None:
    if stored is None:
        return None
    kind, code, message, retry_after_s = json.loads(stored)
    return Failure(FailureClass(kind), code, message, retry_after_s)


def iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_time(iso: str) -> float:
    """The seconds since 1970 that `iso_time` wrote."""
    return datetime.fromisoformat(iso).timestamp()


def job_record(row: Any) -> JobRecord:
    """`row` has the columns of the table `jobs`."""
    ended = {status: getattr(row, status) for status in ENDED}
    return JobRecord(
        id=JobId(row.id),
        workflow=row.workflow,
        tenant=row.tenant,
        status=JobStatus(row.status),
        priority=row.priority,
        rows=row.row_count,
        counts={PENDING: row.row_count - sum(ended.values()), **ended},
        metadata=json.loads(row.metadata),
        created_at=iso_time(row.created_at),
        started_at=None if row.started_at is None else iso_time(row.started_at),
        ended_at=None if row.ended_at is None else iso_time(row.ended_at),
        cancel_requested=row.cancel_requested,
        cache=row.cache,
        slo=SloClass(row.slo),
        deadline_s=row.deadline_s,
    )
