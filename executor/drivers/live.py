"""The live driver: performs the core's commands against real engines, tools and the store, and feeds back what came of
them. Whatever fails becomes an event; only a broken promise of our own code stops the driver."""

import asyncio
import json
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import structlog

from executor.child_process import ToolFailed
from executor.clock import Clock
from executor.commands import (
    Abort,
    BeginProgram,
    CallMeAt,
    Command,
    Decide,
    Dispatch,
    FinishJob,
    FinishProgram,
    ForgetShared,
    KeepShared,
    OpenFrame,
    PlanBatch,
    Prepare,
    RunTool,
    SaveNode,
    SaveProgram,
    Settle,
    Status,
    TakeShared,
    UseFallback,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.drivers.live_state import LiveState
from executor.drivers.progress import Progress
from executor.drivers.watch import EngineWatch
from executor.drivers.writer import Writer
from executor.engines.port import Completion, Engine, EngineFailed, Failure, FailureClass, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    Cancelled,
    Event,
    JobSubmitted,
    NodeFailed,
    Recovered,
    ToolFinished,
    ToolStarted,
    WakeUp,
)
from executor.journal import Journal
from executor.store.port import (
    NO_WORK,
    Claim,
    Fenced,
    JobContents,
    JobEnded,
    NodeOutput,
    ProgramEnded,
    SavedProgram,
    Store,
    StoreUnavailable,
    ToolBegun,
    Work,
)
from executor.tools import ToolRunner, as_failure
from executor.values import Values, load_outputs
from kvstore.program_state import ProgramStates
from planner.ir.codec import decode
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef, ProgramId
from planner.ir.plan import Effect, Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table

#: How long a driver that is closed waits for the store.
LAST_WRITES_S = 10.0
#: Below so many rows planning is done at once; above, in a thread, so that calls in flight are not held up.
ROWS_PLANNED_AT_ONCE = 64

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _LiveJob:
    claim: Claim
    plan: Plan
    table: Table
    contents: JobContents
    ended: "asyncio.Future[Status]"
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Done:
    """What a node took to do, where it was done, and the tools it asks for."""

    work: Work = NO_WORK
    engine: EngineId | None = None
    tools: tuple[str, ...] = ()


_NOTHING = _Done()
_ONE_TOOL = _Done(Work(tools=1))


class LiveDriver:
    """Runs jobs until `close`. One core for all of them; for one event loop only.

    Start it with `async with`. `journal` gets every event, in order.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        tools: ToolRunner,
        store: Store,
        states: ProgramStates,
        clock: Clock,
        limits: Limits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._engines: Mapping[EngineId, Engine] = {engine.spec.id: engine for engine in engines}
        self._tools, self._store, self._clock, self._journal = tools, store, clock, journal
        self._core = Scheduler([engine.spec for engine in engines], limits)
        self._values = Values()
        self._states = LiveState(states, clock)
        self._jobs: dict[JobId, _LiveJob] = {}
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._running: dict[tuple[NodeRef, int], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: dict[ProgramId, dict[str, _Done]] = {}
        self._shared_done: dict[ContentKey, _Done] = {}

    async def __aenter__(self) -> "LiveDriver":
        self._writer = Writer(self._store, self._clock, self._fenced)
        self._watch = EngineWatch(self._engines, self._clock, self._post, self._spawn)
        await self._watch.start()
        self._states.start(self._spawn)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, claim: Claim) -> Status:
        """Run a claimed job to its end; everything it gave is committed when this returns.

        Raises `Fenced` when somebody else took the job over meanwhile.
        """
        job = await self._load(claim)
        self._post(_submitted(job, self._clock.now()))
        return await job.ended

    def cancel(self, job: JobId) -> None:
        """Stop the job; what it has finished is kept. Its `run` then returns `CANCELLED`."""
        if job in self._jobs:
            self._post(Cancelled(self._clock.now(), job))

    def progress(self, job: JobId) -> Progress | None:
        """How far the job is; None when it is not running here."""
        live = self._jobs.get(job)
        return live.progress if live else None

    def engines_up(self) -> Mapping[EngineId, bool]:
        """Which engines are believed to answer."""
        return self._core.engines_up

    async def close(self) -> None:
        """Stop all calls, commit what is finished, and give unfinished jobs back.

        A store that is away is waited for no longer than `LAST_WRITES_S`: what it did not take is done again later.
        """
        claims = [job.claim for job in self._jobs.values()]
        for task in (*self._running.values(), *self._tasks):
            task.cancel()
        await asyncio.gather(*self._running.values(), *self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WRITES_S):
                await self._writer.close()
                for claim in claims:
                    await self._store.release(claim)
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("stopped before the store took everything; leases run out by themselves", error=repr(error))

    # -- events in, commands out

    def _post(self, event: Event) -> None:
        self._inbox.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                self._handle(self._inbox.popleft())
        finally:
            self._draining = False

    def _handle(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.append(event)
        for command in self._core.handle(event):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Prepare() | Decide() | Settle():
                self._inbox.append(self._values.answer(command, self._clock.now()))
            case TakeShared(node=node, key=key):
                self._done[node.program][node.path] = self._shared_done[key]
                self._values.apply(command)
            case KeepShared(node=node, key=key):
                self._shared_done[key] = _whole(self._done[node.program], node.path)
                self._values.apply(command)
            case ForgetShared(key=key):
                self._shared_done.pop(key, None)
                self._values.apply(command)
            case OpenFrame() | UseFallback():
                self._values.apply(command)
            case Dispatch(node=node, attempt=attempt):
                self._begin(node, attempt, self._call(command))
            case RunTool(node=node, attempt=attempt):
                self._begin(node, attempt, self._tool(command))
            case Abort(node=node, attempt=attempt):
                if task := self._running.pop((node, attempt), None):
                    task.cancel()
            case SaveNode():
                self._save_node(command)
            case SaveProgram():
                self._states.save(command)
            case BeginProgram():
                self._begin_program(command)
            case FinishProgram():
                self._finish_program(command)
            case PlanBatch(job=job):
                self._plan(self._jobs[job])
            case FinishJob(job=job, status=status):
                self._spawn(self._finish_job(self._jobs.pop(job), status))
            case WatchEngine(engine=engine, after_s=after_s):
                self._watch.bring_back(engine, after_s)
            case CallMeAt(at=at):
                self._spawn(self._wake_at(at))

    # -- work

    async def _call(self, command: Dispatch) -> None:
        node, attempt = command.node, command.attempt
        request = replace(self._values.call(node), call_id=call_id(node, attempt))
        try:
            if self._writer.crowded:
                await self._writer.room()
            completion = await self._engines[command.engine].generate(request)
        except EngineFailed as failed:
            self._ended(node, attempt, NodeFailed(self._clock.now(), node, attempt, failed.failure))
        except Exception as error:
            log.exception("engine body failed", engine=command.engine)
            failure = Failure(FailureClass.ENGINE, "engine_body_failed", f"{type(error).__name__}: {error}")
            self._ended(node, attempt, NodeFailed(self._clock.now(), node, attempt, failure))
        else:
            self._ended(node, attempt, self._completed(command, completion))

    def _completed(self, command: Dispatch, completion: Completion) -> Event:
        node, attempt, at = command.node, command.attempt, self._clock.now()
        self._job_of(node).progress.called(completion.usage)
        if failure := self._values.take_completion(node, completion):
            return NodeFailed(at, node, attempt, failure)
        tools = tuple(call.name for call in completion.tool_calls) if self._values.call(node).is_turn else ()
        self._done[node.program][node.path] = _Done(_one_call(completion.usage), command.engine, tools)
        return CallFinished(at, node, attempt, completion.usage, tools)

    async def _tool(self, command: RunTool) -> None:
        node, attempt = command.node, command.attempt
        if command.spec.effect is Effect.UNSAFE:
            await self._note_begun(node, attempt)
        self._post(ToolStarted(self._clock.now(), node, attempt))
        try:
            result = await self._tools.run(command.spec, self._values.tool(node).arguments)
        except ToolFailed as failed:
            self._ended(node, attempt, NodeFailed(self._clock.now(), node, attempt, as_failure(failed)))
            return
        self._job_of(node).progress.tools += 1
        self._values.take_tool_result(node, result)
        self._done[node.program][node.path] = _ONE_TOOL
        self._ended(node, attempt, ToolFinished(self._clock.now(), node, attempt))

    async def _note_begun(self, node: NodeRef, attempt: int) -> None:
        """An `unsafe` tool runs only after it is on record that it does."""
        job = self._job_of(node)
        self._writer.add(job.claim, ToolBegun(_row(node), node.path, attempt))
        await self._writer.flush(job.claim)

    def _ended(self, node: NodeRef, attempt: int, event: Event) -> None:
        if self._running.pop((node, attempt), None) is not None:
            self._post(event)

    # -- jobs and programs

    async def _load(self, claim: Claim) -> _LiveJob:
        contents = await self._store.load(claim)
        plan = decode(contents.plan)
        table = Table.from_rows(contents.rows, plan.inputs)
        ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        progress = Progress(rows=table.rows, ended=len(contents.ended), before=len(contents.ended))
        job = self._jobs[claim.job] = _LiveJob(claim, plan, table, contents, ended, progress)
        return job

    def _plan(self, job: _LiveJob) -> None:
        if job.table.rows <= ROWS_PLANNED_AT_ONCE:
            self._inbox.append(_planned(job, self._clock.now()))
        else:
            self._spawn(self._plan_aside(job))

    async def _plan_aside(self, job: _LiveJob) -> None:
        self._post(replace(await asyncio.to_thread(_planned, job, 0.0), at=self._clock.now()))

    def _begin_program(self, command: BeginProgram) -> None:
        job = self._jobs[command.job]
        saved = job.contents.saved.get(command.row)
        outputs = load_outputs(saved.outputs) if saved else None
        self._done[command.program] = _done_before(saved) if saved else {}
        self._values.open_program(command.program, job.plan, job.table.row(command.row), outputs)

    def _save_node(self, command: SaveNode) -> None:
        node, job = command.node, self._job_of(command.node)
        shared = command.shared_from
        done = self._done[node.program].get(node.path, _NOTHING)
        if shared is not None:
            job.progress.saved(done.work)
        output = None if shared else json.dumps(self._values.output(node), ensure_ascii=False)
        self._writer.add(
            job.claim,
            NodeOutput(
                row=_row(node),
                path=node.path,
                attempt=command.attempt,
                output=output,
                tools=done.tools,
                shared_from=_address(shared) if shared else None,
                work=done.work,
                engine=None if shared else done.engine,
            ),
        )

    def _finish_program(self, command: FinishProgram) -> None:
        job = self._jobs[command.job]
        result = None
        if command.status is Status.SUCCEEDED:
            result = json.dumps(self._values.output(NodeRef(command.program, "")), ensure_ascii=False)
        self._writer.add(job.claim, ProgramEnded(command.row, command.status, result, command.failure))
        job.progress.end(command.status)
        self._values.forget_program(command.program)
        self._done.pop(command.program, None)
        self._states.forget(command.program)

    async def _finish_job(self, job: _LiveJob, status: Status) -> None:
        self._writer.add(job.claim, JobEnded(status))
        await self._writer.flush(job.claim)
        if not job.ended.done():
            job.ended.set_result(status)

    def _fenced(self, job_id: JobId) -> None:
        """Somebody else runs the job now: drop it here."""
        job = self._jobs.get(job_id)
        if job is not None and not job.ended.done():
            job.ended.set_exception(Fenced(f"job {job_id} was taken over by another process"))
            self._post(Cancelled(self._clock.now(), job_id))

    def _job_of(self, node: NodeRef) -> _LiveJob:
        return self._jobs[JobId(node.program.rpartition("/")[0])]

    # -- tasks

    async def _wake_at(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.now()))
        self._post(WakeUp(self._clock.now()))

    def _begin(self, node: NodeRef, attempt: int, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running[node, attempt] = task
        task.add_done_callback(self._check)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._check)

    def _check(self, task: "asyncio.Task[None]") -> None:
        """A task that raised broke a promise of ours: everybody who waits for a job learns it."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("driver failed", exc_info=error)
        for job in self._jobs.values():
            if not job.ended.done():
                job.ended.set_exception(error)


def call_id(node: NodeRef, attempt: int) -> str:
    """The same call of the same program has the same id in every process; another attempt has another."""
    return blake2b(f"{node}@{attempt}".encode(), digest_size=16).hexdigest()


def _submitted(job: _LiveJob, at: float) -> JobSubmitted:
    recovered = {
        row: Recovered({path: saved.tools.get(path, ()) for path in saved.outputs}, saved.interrupted)
        for row, saved in job.contents.saved.items()
    }
    record = job.contents.record
    return JobSubmitted(at, record.id, job.plan, job.table.rows, record.priority, tuple(job.contents.ended), recovered)


def _planned(job: _LiveJob, at: float) -> BatchPlanned:
    (part,) = optimize([JobPart(job.plan, job.table)]).parts
    return BatchPlanned(at, job.claim.job, part.plan, part.order, part.groups)


def _one_call(usage: Usage) -> Work:
    return Work(1, 0, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)


def _whole(done: Mapping[str, _Done], path: str) -> _Done:
    """What a node took, with all that is inside it."""
    if path in done:
        return done[path]
    inside = [part.work for name, part in done.items() if name.startswith((f"{path}[", f"{path}#", f"{path}?"))]
    return _Done(sum(inside, NO_WORK))


def _done_before(saved: SavedProgram) -> dict[str, _Done]:
    return {path: _Done(work, tools=saved.tools.get(path, ())) for path, work in saved.work.items()}


def _row(node: NodeRef) -> int:
    return int(node.program.rpartition("/")[2])


def _address(node: NodeRef) -> tuple[JobId, int, str]:
    job, _, row = node.program.rpartition("/")
    return JobId(job), int(row), node.path
