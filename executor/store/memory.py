"""The store in this process: for inline jobs and for simulation. Nothing survives the process, all else is the same."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count, islice

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
from executor.store.memory_job import MemoryJob
from executor.store.records import iso_time
from executor.store.told import ResultRow, Served, StoredDecision, StoredEvent
from executor.store.writes import (
    NO_WORK,
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
from planner.measured import CallSpan, Tally


class MemoryStore:
    """A `Store`. Leases run by `clock`; `unix_time` only dates what is told to people."""

    def __init__(self, clock: Clock | None = None, unix_time: Callable[[], float] = time.time) -> None:
        self._clock = clock or WallClock()
        self._unix_time = unix_time
        self._jobs: dict[JobId, MemoryJob] = {}
        self._keys: dict[tuple[str, str], JobId] = {}
        self._events: list[StoredEvent] = []
        self._drained: set[EngineId] = set()
        self._numbers, self._seqs = count(), count(1)
        self.result_cache = MemoryResultCache()

    async def create_job(self, job: NewJob) -> JobRecord:
        if (before := await self.accepted(job)) is not None:
            return before
        self._jobs[job.id] = made = MemoryJob(next(self._numbers), job, self._now())
        if job.idempotency_key is not None:
            self._keys[job.tenant, job.idempotency_key] = job.id
        self._tell(job.id, "job.queued")
        return made.record

    async def accepted(self, job: NewJob) -> JobRecord | None:
        before = self._before(job)
        return None if before is None else _same_request(before, job)

    def _before(self, job: NewJob) -> MemoryJob | None:
        with_key = None if job.idempotency_key is None else self._keys.get((job.tenant, job.idempotency_key))
        return self._jobs.get(with_key or job.id)

    async def claim(
        self, owner: str, lease_s: float, job: JobId | None = None, weights: Weights = EQUAL_WEIGHTS
    ) -> Claim | None:
        wanted = self._jobs.values() if job is None else [self._jobs[job]] if job in self._jobs else []
        open_jobs = [one for one in wanted if self._free(one) or (job is not None and one.held_by(owner))]
        if not open_jobs:
            return None
        running = Counter(one.new.tenant for one in self._jobs.values() if self._leased(one))
        had = {tenant: running[tenant] / weights.of(tenant) for tenant in {one.new.tenant for one in open_jobs}}
        begun = sorted((one.started_at, one.new.tenant) for one in self._jobs.values() if one.started_at is not None)
        last = dict.fromkeys(had, "") | {tenant: started_at for started_at, tenant in begun}
        first = min(
            open_jobs, key=lambda one: (had[one.new.tenant], last[one.new.tenant], one.new.priority, one.number)
        )
        first.status, first.owner, first.attempt = JobStatus.RUNNING, owner, first.attempt + 1
        first.lease_until = self._clock.now() + lease_s
        first.started_at = first.started_at or self._now()
        self._tell(first.new.id, "job.running" if first.attempt == 1 else "job.taken_over")
        return Claim(first.new.id, first.attempt)

    def _free(self, job: MemoryJob) -> bool:
        return not job.status.ended and not self._leased(job)

    def _leased(self, job: MemoryJob) -> bool:
        return job.status is JobStatus.RUNNING and job.lease_until > self._clock.now()

    async def renew(self, owner: str, lease_s: float) -> Sequence[JobId]:
        held = [job for job in self._jobs.values() if job.held_by(owner)]
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
        return JobContents(job.record, job.new.plan, rows, sorted(job.ended), saved, job.beliefs)

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
                    job.keep_output(write)
                case ToolBegun():
                    job.nodes.setdefault(write.row, {}).setdefault(write.path, write)
                case ProgramEnded():
                    self._end_program(job, write)
                case DecisionMade():
                    job.keep_decision(write)
                case JobBelieved(beliefs=beliefs):
                    job.beliefs = job.beliefs or beliefs
                case JobEnded():
                    over = over or write
        if over is not None:
            job.learnt = job.learnt or over.learnt
            self._end(job, JobStatus(over.status.value))

    def _end_program(self, job: MemoryJob, program: ProgramEnded) -> None:
        if program.row in job.ended:
            return
        job.ended[program.row] = program
        job.counts[program.status.value] += 1
        reason = None if program.failure is None else {"code": program.failure.code}
        self._tell(job.new.id, f"program.{program.status.value}", program.row, reason)

    def _end(self, job: MemoryJob, status: JobStatus) -> None:
        if job.status.ended:
            return
        job.status, job.ended_at, job.owner = status, self._now(), None
        if status is JobStatus.CANCELLED:
            left = [row for row in range(len(job.new.rows)) if row not in job.ended]
            job.ended |= {row: ProgramEnded(row, Status.CANCELLED) for row in left}
            job.counts["cancelled"] += len(left)
        self._tell(job.new.id, f"job.{status.value}")

    async def job(self, job: JobId, tenant: str | None = None) -> JobRecord:
        return self._find(job, tenant).record

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
        end = self._jobs[before].number if before is not None else None
        records = (job.record for job in reversed(self._jobs.values()) if end is None or job.number < end)
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
        return found.record

    async def cancels_requested(self, owner: str) -> Sequence[JobId]:
        return [job.new.id for job in self._jobs.values() if job.held_by(owner) and job.cancel_requested]

    async def results(self, job: JobId, after_row: int = -1) -> AsyncIterator[ResultRow]:
        found = self._find(job)
        for row in range(after_row + 1, len(found.new.rows)):
            yield found.result(row)

    async def events(self, job: JobId, after_seq: int = 0, limit: int = 1000) -> Sequence[StoredEvent]:
        return list(islice((one for one in self._events if one.seq > after_seq and one.job == job), limit))

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
                left[job.new.tenant, job.new.slo, job.new.workflow] += job.left
        return [Pending(*whose, programs) for whose, programs in sorted(left.items())]

    async def definition(self, job: JobId) -> JobDefinition:
        found = self._find(job)
        return JobDefinition(found.new.plan, found.new.rows, found.beliefs, found.learnt)

    async def tallies(self, job: JobId) -> Sequence[Tally]:
        return self._find(job).tallies()

    async def call_spans(self, job: JobId) -> Sequence[CallSpan]:
        return self._find(job).call_spans()

    async def served(self, seconds: float) -> Sequence[Served]:
        since, found = self._unix_time() - seconds, dict[EngineId, Served]()
        for node in (node for job in self._jobs.values() for node in job.outputs()):
            if node.engine is not None and node.times is not None and node.times.ended_at >= since:
                work = node.work
                one = Served(node.engine, work.calls, work.prompt_tokens, work.output_tokens, work.cached_tokens)
                found[node.engine] = found.get(node.engine, Served(node.engine)) + one
        return [found[engine] for engine in sorted(found)]

    async def seen(self, workflow: str, tenant: str = "default", limit: int = 5000) -> Sequence[Seen]:
        jobs = [job for job in self._jobs.values() if (job.new.workflow, job.new.tenant) == (workflow, tenant)]
        newest = sorted(jobs, key=lambda job: -job.number)
        return list(islice((found for job in newest for found in job.seen()), limit))

    async def forgettable(self, older_than_s: float) -> Sequence[JobId]:
        since, needed = iso_time(self._unix_time() - older_than_s), self._needed()
        old = (job.new.id for job in self._jobs.values() if (job.ended_at or since) < since)
        return [job for job in old if job not in needed]

    def _needed(self) -> set[JobId]:
        needed: set[JobId] = set()
        asking = {job.new.id for job in self._jobs.values() if not job.status.ended}
        while asking:
            needed |= asking
            asking = {lender for job in asking if job in self._jobs for lender in self._jobs[job].lenders()} - needed
        return needed

    async def forget(self, jobs: Sequence[JobId]) -> None:
        gone = {job for job in jobs if job in self._jobs and self._jobs[job].status.ended}
        self._jobs = {id: job for id, job in self._jobs.items() if id not in gone}
        self._keys = {key: job for key, job in self._keys.items() if job not in gone}
        self._events = [event for event in self._events if event.job not in gone]

    async def erase(self, rows: int) -> int:
        return 0

    async def drain(self, engine: EngineId, operator: str) -> None:
        self._drained.add(engine)

    async def resume(self, engine: EngineId) -> None:
        self._drained.discard(engine)

    async def drained(self) -> Sequence[EngineId]:
        return sorted(self._drained)

    async def ping(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """There is nothing to close."""

    def _find(self, job: JobId, tenant: str | None = None) -> MemoryJob:
        found = self._jobs.get(job)
        if found is None or tenant not in (None, found.new.tenant):
            raise JobUnknown(f"There is no job {job}.")
        return found

    def _fenced(self, claim: Claim) -> MemoryJob:
        job = self._find(claim.job)
        if job.attempt != claim.attempt:
            raise Fenced(f"Job {claim.job} was claimed again: attempt {job.attempt}, not {claim.attempt}.")
        return job

    def _tell(self, job: JobId, kind: str, row: int | None = None, detail: Json = None) -> None:
        self._events.append(StoredEvent(next(self._seqs), job, row, kind, self._now(), detail))

    def _now(self) -> str:
        return iso_time(self._unix_time())


def _same_request(before: MemoryJob, job: NewJob) -> JobRecord:
    old = before.new
    if (old.tenant, old.request_hash, old.plan) != (job.tenant, job.request_hash, job.plan):
        raise IdempotencyConflict("The idempotency key was used before, for another request.")
    return before.record
