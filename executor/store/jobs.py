"""A job as it is accepted, as it stands, as it is claimed, and what is needed to run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from executor.slo import SloClass
from executor.store.writes import Work
from planner.ir.ids import JobId
from planner.ir.values import Json


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


#: Whose jobs are where nobody is told apart.
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be accepted. `plan` is the codec's text; `rows` are the inputs of its programs, in order.

    `request_hash` identifies the request for the idempotency key: the same key with another hash is a conflict. Without
    `cache` nothing is taken from the result cache for it, and nothing it gives is kept there. Each of its programs
    should be done `deadline_s` seconds after it was accepted.
    """

    id: JobId
    workflow: str
    plan: str
    rows: Sequence[Mapping[str, Json]]
    tenant: str = DEFAULT_TENANT
    priority: int = 0
    idempotency_key: str | None = None
    request_hash: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict)
    cache: bool = True
    slo: SloClass = SloClass.STANDARD
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands. `counts` has the number of programs by status; times are ISO 8601 in UTC."""

    id: JobId
    workflow: str
    tenant: str
    status: JobStatus
    priority: int
    rows: int
    counts: Mapping[str, int]
    metadata: Mapping[str, Json]
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    cancel_requested: bool = False
    cache: bool = True
    slo: SloClass = SloClass.STANDARD
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job until the lease ends; `attempt` is the fence."""

    job: JobId
    attempt: int


@dataclass(frozen=True, slots=True)
class Weights:
    """How many jobs tenants may have running beside each other's; those that are not named have that of `others`."""

    by_tenant: Mapping[str, float] = field(default_factory=dict)
    others: float = 1.0

    def of(self, tenant: str) -> float:
        return self.by_tenant.get(tenant, self.others)


EQUAL_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class SavedProgram:
    """What was stored of a program that has not ended: outputs by path (shared ones read through), tools begun but
    not ended, and the work of each node that did or saved any."""

    outputs: Mapping[str, str]
    tools: Mapping[str, tuple[str, ...]]
    interrupted: tuple[str, ...]
    work: Mapping[str, Work] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobContents:
    """Everything needed to run a job, or to go on with it. `ended` rows need nothing more. `beliefs` were written in an
    earlier attempt."""

    record: JobRecord
    plan: str
    rows: Sequence[Mapping[str, Json]]
    ended: Sequence[int]
    saved: Mapping[int, SavedProgram]
    beliefs: str | None = None


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What a job was accepted as: the codec's text of its plan, and its rows. And what was believed of it before it ran
    and learnt by its end, where that was written."""

    plan: str
    rows: Sequence[Mapping[str, Json]]
    beliefs: str | None = None
    learnt: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """So many `programs` of one workflow, tenant and class are to be done yet."""

    tenant: str
    slo: SloClass
    workflow: str
    programs: int
