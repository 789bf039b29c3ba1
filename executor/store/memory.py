"""The store in this process: for inline jobs and for simulation. Nothing survives the process, all else is the same."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from executor.clock import Clock, WallClock
from executor.commands import Status
from executor.slo import SloClass
from executor.store.failures import Fenced, IdempotencyConflict, JobUnknown
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
from executor.store.memory_cache import MemoryResultCache
from executor.store.records import ENDED, PENDING, countable, counted, iso_time
from executor.store.told import ResultRow, Served, StoredDecision, StoredEvent
from executor.store.writes import (
    DECISIONS_A_CLAIM,
    MADE,
    NO_WORK,
    RESULT_CACHE,
    DecisionMade,
    JobBelieved,
    JobEnded,
    NodeOutput,
    ProgramEnded,
    ToolBegun,
    Write,
)
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.ir.values import Json
from planner.measured import CallSpan, How, Tally


@dataclass(slots=True)
class _Job:
    number: int
    new: NewJob
    created_at: str
    status: JobStatus = JobStatus.QUEUED
    started_at: str | None = None
    ended_at: str | None = None
    cancel_requested: bool = False
    owner: str | None = None
    lease_until: float = float("-inf")
    attempt: int = 0
    nodes: dict[int, dict[str, NodeOutput | ToolBegun]] = field(default_factory=dict)
    ended: dict[int, ProgramEnded] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDED, 0))
    decisions: dict[int, StoredDecision] = field(default_factory=dict)
    beliefs: str | None = None
    learnt: str | None = None
    usage: dict[str, int] = field(default_factory=lambda: counted(()))


class MemoryStore:
    """A `Store`. Leases run by `clock`; `unix_time` only dates what is told to people."""

    def __init__(self, clock: Clock | None = None, unix_time: Callable[[], float] = time.time) -> None:
        self._clock = clock or WallClock()
        self._unix_time = unix_time
        self._jobs: dict[JobId, _Job] = {}
        self._keys: dict[tuple[str, str], JobId] = {}
        self._events: list[StoredEvent] = []
        self.result_cache = MemoryResultCache()

    async def create_job(self, job: NewJob) -> JobRecord:
        if (before := await self.accepted(job)) is not None:
            return before
        self._jobs[job.id] = made = _Job(len(self._jobs), job, self._now())
        if job.idempotency_key is not None:
            self._keys[job.tenant, job.idempotency_key] = job.id
        self._tell(job.id, "job.queued")
        return _record(made)

    async def accepted(self, job: NewJob) -> JobRecord | None:
        before = self._before(job)
        return None if before is None else _same_request(before, job)

    def _before(self, job: NewJob) -> _Job | None:
        with_key = None if job.idempotency_key is None else self._keys.get((job.tenant, job.idempotency_key))
        return self._jobs.get(with_key or job.id)

    async def claim(
        self, owner: str, lease_s: float, job: JobId | None = None, weights: Weights = EQUAL_WEIGHTS
    ) -> Claim | None:
        wanted = self._jobs.values() if job is None else [self._jobs[job]] if job in self._jobs else []
        open_jobs = [one for one in wanted if self._free(one) or (job is not None and _held(one, owner))]
        if not open_jobs:
            return None
        running = Counter(one.new.tenant for one in self._jobs.values() if self._leased(one))
        had = {tenant: running[tenant] / weights.of(tenant) for tenant in {one.new.tenant for one in open_jobs}}
        first = min(open_jobs, key=lambda one: (had[one.new.tenant], one.new.priority, one.number))
        first.status, first.owner, first.attempt = JobStatus.RUNNING, owner, first.attempt + 1
        first.lease_until = self._clock.now() + lease_s
        first.started_at = first.started_at or self._now()
        self._tell(first.new.id, "job.running" if first.attempt == 1 else "job.taken_over")
        return Claim(first.new.id, first.attempt)

    def _free(self, job: _Job) -> bool:
        return not job.status.ended and not self._leased(job)

    def _leased(self, job: _Job) -> bool:
        return job.status is JobStatus.RUNNING and job.lease_until > self._clock.now()

    async def renew(self, owner: str, lease_s: float) -> Sequence[JobId]:
        held = [job for job in self._jobs.values() if _held(job, owner)]
        for job in held:
            job.lease_until = self._clock.now() + lease_s
        return [job.new.id for job in held]

    async def release(self, claim: Claim) -> None:
        job = self._find(claim.job)
        if job.attempt == claim.attempt:
            job.owner, job.lease_until = None, float("-inf")

    async def load(self, claim: Claim) -> JobContents:
        job = self._fenced(claim)
        rows = job.new.rows
        saved = {row: self._saved(nodes) for row, nodes in sorted(job.nodes.items()) if row not in job.ended}
        return JobContents(_record(job), job.new.plan, rows, sorted(job.ended), saved, job.beliefs)

    async def saved(self, claim: Claim, rows: Sequence[int]) -> Mapping[int, SavedProgram]:
        nodes = self._fenced(claim).nodes
        return {row: self._saved(nodes[row]) for row in sorted(set(rows)) if row in nodes}

    def _saved(self, nodes: Mapping[str, NodeOutput | ToolBegun]) -> SavedProgram:
        outputs = {path: self._output(node) for path, node in sorted(nodes.items()) if isinstance(node, NodeOutput)}
        found = {path: output for path, output in outputs.items() if output is not None}
        done = {path: node for path, node in nodes.items() if isinstance(node, NodeOutput) and path in found}
        tools = {path: node.tools for path, node in done.items()}
        work = {path: node.work for path, node in done.items() if node.work != NO_WORK}
        return SavedProgram(found, tools, tuple(sorted(set(nodes) - set(outputs))), work)

    def _output(self, node: NodeOutput | ToolBegun | None) -> str | None:
        """A node's own output, or that of the node it shares; None where that one was never stored."""
        seen: set[tuple[JobId, int, str]] = set()
        while isinstance(node, NodeOutput) and node.output is None and node.shared_from not in (None, *seen):
            assert node.shared_from is not None
            seen.add(node.shared_from)
            job, row, path = node.shared_from
            node = self._jobs[job].nodes.get(row, {}).get(path) if job in self._jobs else None
        return node.output if isinstance(node, NodeOutput) else None

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        job = self._fenced(claim)
        over: JobEnded | None = None
        for write in writes:
            match write:
                case NodeOutput():
                    _keep_output(job, write)
                case ToolBegun():
                    job.nodes.setdefault(write.row, {}).setdefault(write.path, write)
                case ProgramEnded():
                    self._end_program(job, write)
                case DecisionMade():
                    _keep_decision(job, write)
                case JobBelieved(beliefs=beliefs):
                    job.beliefs = job.beliefs or beliefs
                case JobEnded():
                    over = over or write
        if over is not None:
            job.learnt = job.learnt or over.learnt
            self._end(job, JobStatus(over.status.value))

    def _end_program(self, job: _Job, program: ProgramEnded) -> None:
        if program.row in job.ended:
            return
        job.ended[program.row] = program
        job.counts[program.status.value] += 1
        reason = None if program.failure is None else {"code": program.failure.code}
        self._tell(job.new.id, f"program.{program.status.value}", program.row, reason)

    def _end(self, job: _Job, status: JobStatus) -> None:
        if job.status.ended:
            return
        job.status, job.ended_at, job.owner = status, self._now(), None
        if status is JobStatus.CANCELLED:
            left = [row for row in range(len(job.new.rows)) if row not in job.ended]
            job.ended |= {row: ProgramEnded(row, Status.CANCELLED) for row in left}
            job.counts["cancelled"] += len(left)
        self._tell(job.new.id, f"job.{status.value}")

    async def job(self, job: JobId, tenant: str | None = None) -> JobRecord:
        return _record(self._find(job, tenant))

    async def jobs(
        self,
        tenant: str | None = None,
        status: JobStatus | None = None,
        workflow: str | None = None,
        before: JobId | None = None,
        limit: int = 50,
    ) -> Sequence[JobRecord]:
        if before is not None and before not in self._jobs:
            return []
        end = self._jobs[before].number if before is not None else len(self._jobs)
        records = (_record(job) for job in reversed(list(self._jobs.values())[:end]))
        wanted = (("tenant", tenant), ("status", status), ("workflow", workflow))
        found = [one for one in records if all(value in (None, getattr(one, name)) for name, value in wanted)]
        return found[:limit]

    async def request_cancel(self, job: JobId, tenant: str | None = None) -> JobRecord:
        found = self._find(job, tenant)
        if not (found.status.ended or found.cancel_requested):
            found.cancel_requested = True
            self._tell(job, "job.cancel_requested")
        if found.status is JobStatus.QUEUED:
            self._end(found, JobStatus.CANCELLED)
        return _record(found)

    async def cancels_requested(self, owner: str) -> Sequence[JobId]:
        return [job.new.id for job in self._jobs.values() if _held(job, owner) and job.cancel_requested]

    async def results(self, job: JobId, after_row: int = -1) -> AsyncIterator[ResultRow]:
        found = self._find(job)
        for row in range(after_row + 1, len(found.new.rows)):
            yield _result(row, found.ended.get(row))

    async def events(self, job: JobId, after_seq: int = 0, limit: int = 1000) -> Sequence[StoredEvent]:
        return [event for event in self._events[after_seq:] if event.job == job][:limit]

    async def decisions(
        self, job: JobId, after_seq: int = 0, limit: int = 1000, row: int | None = None, path: str | None = None
    ) -> Sequence[StoredDecision]:
        kept = self._jobs[job].decisions if job in self._jobs else {}
        found = (one for seq, one in kept.items() if seq > after_seq)
        return list(islice((one for one in found if row in (None, one.row) and path in (None, one.path)), limit))

    async def usage(self, job: JobId) -> Mapping[str, int]:
        return dict(self._find(job).usage)

    async def pending(self) -> Sequence[Pending]:
        left: Counter[tuple[str, SloClass, str]] = Counter()
        for job in self._jobs.values():
            if not job.status.ended:
                left[job.new.tenant, job.new.slo, job.new.workflow] += len(job.new.rows) - sum(job.counts.values())
        return [Pending(*whose, programs) for whose, programs in sorted(left.items())]

    async def definition(self, job: JobId) -> JobDefinition:
        found = self._find(job)
        return JobDefinition(found.new.plan, found.new.rows, found.beliefs, found.learnt)

    async def tallies(self, job: JobId) -> Sequence[Tally]:
        groups: dict[tuple[str, How], list[NodeOutput]] = {}
        for node in _outputs(self._find(job)):
            groups.setdefault((node.path, _how(node)), []).append(node)
        return [_tally(path, how, groups[path, how]) for path, how in sorted(groups)]

    async def call_spans(self, job: JobId) -> Sequence[CallSpan]:
        spans = [
            CallSpan(node.path, node.engine, node.times.begun_at, node.times.ended_at)
            for node in _outputs(self._find(job))
            if node.engine is not None and node.times is not None
        ]
        return sorted(spans, key=lambda span: (span.begun_at, span.ended_at, span.path))

    async def served(self, seconds: float) -> Sequence[Served]:
        since, found = self._unix_time() - seconds, dict[EngineId, Served]()
        for node in (node for job in self._jobs.values() for node in _outputs(job)):
            if node.engine is not None and node.times is not None and node.times.ended_at >= since:
                work = node.work
                one = Served(node.engine, work.calls, work.prompt_tokens, work.output_tokens, work.cached_tokens)
                found[node.engine] = found.get(node.engine, Served(node.engine)) + one
        return [found[engine] for engine in sorted(found)]

    async def seen(self, workflow: str, tenant: str = "default", limit: int = 5000) -> Sequence[Seen]:
        jobs = [job for job in self._jobs.values() if (job.new.workflow, job.new.tenant) == (workflow, tenant)]
        newest = sorted(jobs, key=lambda job: -job.number)
        return list(islice((found for job in newest for found in _seen(job)), limit))

    async def ping(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """There is nothing to close."""

    def _find(self, job: JobId, tenant: str | None = None) -> _Job:
        found = self._jobs.get(job)
        if found is None or tenant not in (None, found.new.tenant):
            raise JobUnknown(f"There is no job {job}.")
        return found

    def _fenced(self, claim: Claim) -> _Job:
        job = self._find(claim.job)
        if job.attempt != claim.attempt:
            raise Fenced(f"Job {claim.job} was claimed again: attempt {job.attempt}, not {claim.attempt}.")
        return job

    def _tell(self, job: JobId, kind: str, row: int | None = None, detail: Json = None) -> None:
        self._events.append(StoredEvent(len(self._events) + 1, job, row, kind, self._now(), detail))

    def _now(self) -> str:
        return iso_time(self._unix_time())


def _same_request(before: _Job, job: NewJob) -> JobRecord:
    old = before.new
    if (old.tenant, old.request_hash, old.plan) != (job.tenant, job.request_hash, job.plan):
        raise IdempotencyConflict("The idempotency key was used before, for another request.")
    return _record(before)


def _held(job: _Job, owner: str) -> bool:
    return job.status is JobStatus.RUNNING and job.owner == owner


def _keep_output(job: _Job, node: NodeOutput) -> None:
    nodes = job.nodes.setdefault(node.row, {})
    if isinstance(nodes.get(node.path), NodeOutput):
        return
    nodes[node.path] = node
    for name, count in counted((node,)).items():
        job.usage[name] += count


def _keep_decision(job: _Job, made: DecisionMade) -> None:
    seq = job.attempt * DECISIONS_A_CLAIM + made.number
    job.decisions.setdefault(
        seq, StoredDecision(seq, made.row, made.path, made.attempt, iso_time(made.at), made.detail)
    )


def _seen(job: _Job) -> Iterator[Seen]:
    for row in sorted(job.nodes):
        for path, node in sorted(job.nodes[row].items()):
            if isinstance(node, NodeOutput) and node.times is not None and node.output is not None:
                seconds, work = node.times.ended_at - node.times.begun_at, node.work
                yield Seen(path, node.output, seconds, work.prompt_tokens, work.output_tokens, work.cached_tokens)


def _outputs(job: _Job) -> Iterator[NodeOutput]:
    return (node for nodes in job.nodes.values() for node in nodes.values() if isinstance(node, NodeOutput))


def _how(node: NodeOutput) -> How:
    if node.shared_from is None:
        return How.MADE
    return How.RECALLED if node.shared_from == RESULT_CACHE else How.SHARED


def _tally(path: str, how: How, nodes: Sequence[NodeOutput]) -> Tally:
    times = [node.times for node in nodes if node.times is not None]
    return Tally(
        path=path,
        how=how,
        nodes=len(nodes),
        **{name: sum(countable(getattr(node.work, name)) for node in nodes) for name in MADE},
        waited_s=sum(at.begun_at - at.ready_at for at in times),
        took_s=sum(at.ended_at - at.begun_at for at in times),
        first_begun_at=min((at.begun_at for at in times), default=None),
        last_ended_at=max((at.ended_at for at in times), default=None),
    )


def _result(row: int, ended: ProgramEnded | None) -> ResultRow:
    if ended is None:
        return ResultRow(row, None)
    result = None if ended.result is None else json.loads(ended.result)
    return ResultRow(row, ended.status, result, ended.failure)


def _record(job: _Job) -> JobRecord:
    return JobRecord(
        id=job.new.id,
        workflow=job.new.workflow,
        tenant=job.new.tenant,
        status=job.status,
        priority=job.new.priority,
        rows=len(job.new.rows),
        counts={PENDING: len(job.new.rows) - sum(job.counts.values()), **job.counts},
        metadata=dict(job.new.metadata),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        cancel_requested=job.cancel_requested,
        cache=job.new.cache,
        slo=job.new.slo,
        deadline_s=job.new.deadline_s,
    )
