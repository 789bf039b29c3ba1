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
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from executor.commands import Status
from executor.engines.port import Failure, Usage
from executor.slo import SloClass
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.ir.values import Json
from planner.measured import CallSpan, Tally

#: What `Store.usage` tells of: work made, and work saved because somebody else's was the same.
MADE = ("calls", "tools", "prompt_tokens", "output_tokens", "cached_tokens")
SAVED = ("saved_calls", "saved_tools", "saved_prompt_tokens", "saved_output_tokens")
#: Of the work saved, that which an earlier job did: its results came from the result cache.
RECALLED = ("recalled_calls", "recalled_tools")


#: Decisions are numbered within a claim of a job; this many fit before the next claim's.
DECISIONS_A_CLAIM = 2**32


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Fenced(Exception):
    """Somebody else holds the job now; nothing was written."""


class StoreUnavailable(Exception):
    """The database cannot be reached or cannot write just now; trying again later may help."""


class StoreRefused(Exception):
    """The store cannot be opened as things are; the message says why, and how to mend it."""


class JobUnknown(Exception):
    """There is no such job, or it is another tenant's."""


class IdempotencyConflict(Exception):
    """The key was used before, for another request."""


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
    tenant: str = "default"
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
class Work:
    """What it takes to do a node: calls, runs of tools, and the tokens of the calls."""

    calls: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def of_call(cls, usage: Usage) -> "Work":
        return cls(1, 0, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in MADE))


NO_WORK = Work()

#: Stands in `NodeOutput.shared_from` for the result cache: an earlier job did the work, and may be gone by now.
RESULT_CACHE = (JobId(""), 0, "")


@dataclass(frozen=True, slots=True)
class Times:
    """A call or a run of a tool: when its inputs were known, when the attempt that succeeded began, when it ended.

    In seconds since 1970, by the clock of the process that ran it.
    """

    ready_at: float
    begun_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class NodeOutput:
    """What a finished node gave: its JSON value, or for an agent's turn the reply. `tools` are those the turn asks for.

    `shared_from` is the (row, path) of the same or another job's node that did the work; `output` is then None and is
    read from there, and `work` is what was saved. From `RESULT_CACHE` the output is a copy. Otherwise `work` is what
    the node itself took, without those inside, and `times` when, where it is a call or a tool.
    """

    row: int
    path: str
    attempt: int
    output: str | None
    tools: tuple[str, ...] = ()
    shared_from: tuple[JobId, int, str] | None = None
    work: Work = NO_WORK
    engine: EngineId | None = None
    times: Times | None = None


@dataclass(frozen=True, slots=True)
class ToolBegun:
    """An `unsafe` tool is about to run; committed before it does."""

    row: int
    path: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """`result` is JSON text when the program succeeded; else `failure` says why, if anything does."""

    row: int
    status: Status
    result: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """An attempt of a node went to an engine at the instant `at`, in seconds since 1970; `detail` says why, as text
    (`executor.decisions`). `number` counts from 1 what is kept of the job since it was claimed."""

    number: int
    row: int
    path: str
    attempt: int
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class JobBelieved:
    """What was believed of the job before it ran, as text (`executor.beliefs`). The first that is written stands."""

    beliefs: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over. Programs that have not ended get its status when it was cancelled. `learnt` is what is known of
    engines now, as text (`executor.beliefs`)."""

    status: Status
    learnt: str | None = None


Write = NodeOutput | ToolBegun | ProgramEnded | DecisionMade | JobBelieved | JobEnded


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
class ResultRow:
    """One row's end. `status` is None while it runs or waits."""

    row: int
    status: Status | None
    result: Json = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A change worth telling: `seq` grows within the store; `kind` is e.g. `job.running`, `program.succeeded`."""

    seq: int
    job: JobId
    row: int | None
    kind: str
    at: str
    detail: Json = None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A `DecisionMade` as it is kept. `seq` grows within the job, over all claims of it."""

    seq: int
    row: int
    path: str
    attempt: int
    at: str
    detail: str


@dataclass(frozen=True, slots=True)
class Served:
    """Calls that an engine answered, and their tokens."""

    engine: EngineId
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, usage: Usage) -> "Served":
        """With one call more."""
        return self + Served(self.engine, 1, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)

    def __add__(self, other: "Served") -> "Served":
        return Served(
            self.engine,
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """So many `programs` of one workflow, tenant and class are to be done yet."""

    tenant: str
    slo: SloClass
    workflow: str
    programs: int


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

    async def ping(self) -> None:
        """Raises when the database cannot be reached."""
        ...

    async def close(self) -> None: ...
