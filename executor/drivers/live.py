"""The live driver: performs the core's commands against real engines, tools and the store, and feeds back what came of
them. Whatever fails becomes an event; only a broken promise of our own code stops the driver."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

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
    HandOver,
    Hint,
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
from executor.core.knobs import Tuned
from executor.core.life import Life
from executor.core.limits import Limits
from executor.core.program_costs import ProgramCost
from executor.core.scheduler import Scheduler
from executor.core.waiting import Doing
from executor.drivers.call_metrics import CallMetrics, Now
from executor.drivers.hinting import HintCounts, HintPost
from executor.drivers.job_beliefs import JobBeliefs
from executor.drivers.kv_telling import follow_kv_events
from executor.drivers.ledger import Ledger
from executor.drivers.live_job import LiveJob, load_job, planned, submitted
from executor.drivers.live_nodes import LiveNodes
from executor.drivers.live_planning import LivePlanning
from executor.drivers.live_programs import LivePrograms
from executor.drivers.live_state import LiveState
from executor.drivers.outcomes import Outcomes, taken_over
from executor.drivers.places import Left, SharedPlaces, Side
from executor.drivers.progress import Progress
from executor.drivers.reasons import Reasons
from executor.drivers.recall import Recall
from executor.drivers.reuse import Reuse
from executor.drivers.revisions import Revisions
from executor.drivers.tasks import Tasks
from executor.drivers.watch import EngineWatch
from executor.drivers.writer import Writer
from executor.engines.port import Engine
from executor.engines.upstream import Upstream
from executor.events import Cancelled, EngineBack, EngineDraining, EngineResumed, Event, PlacesShared, Retuned, WakeUp
from executor.journal import EventLog
from executor.policy.entrance import Outlook
from executor.policy.places import Kind
from executor.policy.rules import HALO
from executor.policy.tuning import Setting
from executor.store.failures import StoreUnavailable
from executor.store.jobs import Claim
from executor.store.port import Store
from executor.store.result_cache import CacheBounds, ResultCache
from executor.tokenization.counting import PromptCounter
from executor.tools import ToolRunner
from executor.values import Values
from kvstore.program_state import ProgramStates
from planner.cost.correction import Correction
from planner.ir.ids import EngineId, JobId, NodeRef, job_of, program_id
from planner.ir.needs import tools_of

#: How long a driver that is closed waits for the store.
LAST_WRITES_S = 10.0

log = structlog.get_logger(__name__)


class LiveDriver:
    """Runs jobs until `close`. One core for all of them; for one event loop only.

    Start it with `async with`. `journal` gets every event, in order. With a `cache`, fixed work that an earlier job did
    is not done again. `reasons` says which decisions are kept. Through `upstreams`, which stay open, engines are told
    what agents do between their calls. Where calls are `salted`, tenants share no prefix cache. In `places` it shares
    engines with other drivers; `metrics` counts its calls. Calls get engines by the `rule` of that name.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        tools: ToolRunner,
        store: Store,
        states: ProgramStates,
        clock: Clock,
        limits: Limits | None = None,
        journal: EventLog | None = None,
        cache: ResultCache | None = None,
        cache_bounds: CacheBounds | None = None,
        counter: PromptCounter | None = None,
        reasons: Reasons | None = None,
        upstreams: Mapping[EngineId, Upstream] | None = None,
        *,
        salted: bool = False,
        places: SharedPlaces | None = None,
        metrics: CallMetrics | None = None,
        rule: str = HALO.name,
    ) -> None:
        self._engines: Mapping[EngineId, Engine] = {engine.spec.id: engine for engine in engines}
        self._tools, self._store, self._clock, self._journal = tools, store, clock, journal
        self._fleet = [engine.spec for engine in engines]
        self._core = Scheduler(self._fleet, limits, rule)
        self._values = Values()
        self._states = LiveState(states, clock)
        self._beliefs = JobBeliefs(store, clock)
        self._jobs: dict[JobId, LiveJob] = {}
        self._inbox: deque[Event] = deque()
        self._draining = False
        self._tasks = Tasks(self._broken)
        self._hints, self._salted = HintPost(upstreams or {}, self._tasks.spawn), salted
        self._places = places or SharedPlaces(self._fleet)
        self._metrics, core = metrics or CallMetrics(), self._core
        held, waiting = lambda: core.calls(Life.HELD), lambda: core.calls(Life.QUEUED)
        self._metrics.follow(Kind.JOBS, Now(core.running, waiting, held))
        self._side = Side(Kind.JOBS, core.running, core.wanting, core.sets, self._leave_room)
        self._epoch_s = time.time() - clock.now()
        self._ledger = Ledger(self._epoch_s)
        self._reasons = reasons or Reasons()
        self._revisions = Revisions(self._fleet)
        self._recall = Recall(cache, cache_bounds or CacheBounds(), clock) if cache else None
        self._reuse = Reuse(self._recall, self._revisions, tools, self._values) if self._recall else None
        self._planning = LivePlanning(self._fleet, store, self._values, self._ledger, self._beliefs, counter)

    async def __aenter__(self) -> "LiveDriver":
        self._writer = Writer(self._store, self._clock, self._fenced)
        writer, reasons = self._writer, self._reasons
        self._outcomes = Outcomes(writer, self._beliefs, self._values, self._ledger, self._reuse, reasons)
        self._nodes = LiveNodes(
            self._engines,
            self._tools,
            self._values,
            self._ledger,
            self._reuse,
            writer,
            self._outcomes,
            self._tasks,
            self._metrics,
            self._clock,
            self._job_of,
            self._post,
            self._epoch_s,
        )
        self._programs = LivePrograms(
            self._values,
            self._ledger,
            self._reuse,
            self._states,
            self._outcomes,
            self._clock,
            self._job_of,
            self._post,
        )
        self._watch = EngineWatch(self._engines, self._clock, self._told, self._tasks.spawn, self._revisions.note)
        await self._watch.start()
        self._places.join(self._side)
        follow_kv_events(self._fleet, self._clock.now, self._post, self._tasks.spawn)
        if self._recall:
            await self._recall.start(self._tasks.spawn)
        self._states.start(self._tasks.spawn)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, claim: Claim) -> Status:
        """Run a claimed job to its end; everything it gave is committed when this returns.

        Raises `Fenced` when somebody else took the job over meanwhile.
        """
        if self._recall:
            await self._recall.refresh()
        job = await load_job(self._store, claim, salted=self._salted)
        before = await self._beliefs.begin(job.contents, job.plan, self._core.corrections)
        self._jobs[claim.job] = job
        self._reasons.begin(claim.job, job.table.rows)
        states = await self._states.recall([program_id(claim.job, row) for row in job.contents.saved])
        self._post(submitted(job, self._clock.now(), self._epoch_s, before.experience.output_tokens, states))
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

    def drain(self, engine: EngineId) -> None:
        """Send nothing more to the engine; what it has ends there."""
        self._post(EngineDraining(self._clock.now(), engine))

    def resume(self, engine: EngineId) -> None:
        self._post(EngineResumed(self._clock.now(), engine))

    def running(self) -> Mapping[EngineId, int]:
        """How many calls of jobs each engine has."""
        return self._core.running()

    @property
    def outlook(self) -> Outlook:
        """The work of this process, and how quickly it is done."""
        return self._core.outlook

    def cost_of(self, workflow: str) -> ProgramCost:
        """What programs of the workflow cost, as far as any have ended here."""
        return self._core.cost_of(workflow)

    def corrections(self) -> Mapping[EngineId, Correction]:
        """How many times as long as predicted the calls of each engine last, and how far off that is."""
        return self._core.corrections

    @property
    def tuned(self) -> Tuned:
        """The bounds and the rule that jobs are scheduled by now."""
        return self._core.tuned

    def retune(self, setting: Setting) -> None:
        """Schedule by this setting from now on."""
        self._post(Retuned(self._clock.now(), dict(setting)))

    def doings(self, job: JobId) -> Sequence[Doing]:
        """What the job's programs do now, and why what waits does; none where it is not running here."""
        return self._core.doings(job)

    async def close(self) -> None:
        """Stop all calls, commit what is finished, and give unfinished jobs back.

        A store that is away is waited for no longer than `LAST_WRITES_S`: what it did not take is done again later.
        """
        self._places.leave(self._side)
        claims = [job.claim for job in self._jobs.values()]
        await self._tasks.close()
        try:
            async with asyncio.timeout(LAST_WRITES_S):
                await self._writer.close()
                if self._recall:
                    await self._recall.close()
                for claim in claims:
                    await self._store.release(claim)
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("stopped before the store took everything; leases run out by themselves", error=repr(error))

    def hints(self) -> Mapping[EngineId, HintCounts]:
        """How many hints each engine took, and how many were dropped, and why."""
        return self._hints.counts()

    def _leave_room(self, engine: EngineId, left: Left) -> None:
        self._post(PlacesShared(self._clock.now(), engine, left.places, left.kv))

    def _told(self, event: Event) -> None:
        """Of an engine."""
        if isinstance(event, EngineBack):
            self._hints.back(event.engine)
        self._post(event)

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
            self._places.changed(self._side)

    def _handle(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.append(event)
        for command in self._core.handle(event):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:  # those of every call first
            case Prepare():
                self._programs.prepare(command)
            case Dispatch(node=node, engine=engine):
                self._outcomes.sent(self._job_of(node), command, self._epoch_s + self._clock.now())
                self._hints.called(engine, node.program)
                self._places.entered(self._side, engine)
                self._nodes.call(command)
            case SaveNode():
                self._outcomes.save_node(self._job_of(command.node), command)
            case SaveProgram():
                self._states.save(command)
            case KeepShared() | TakeShared() | ForgetShared():
                self._programs.share(command)
            case Decide() | Settle():
                self._inbox.append(self._values.answer(command, self._clock.now()))
            case OpenFrame() | UseFallback():
                self._values.apply(command)
            case RunTool():
                self._nodes.run_tool(command)
            case Hint(program=program):
                self._hints.tell(replace(command, cache_salt=self._jobs[job_of(program)].cache_salt))
            case Abort(node=node, attempt=attempt):
                self._tasks.abort(node, attempt)
            case HandOver(node=node, attempt=attempt, heir=heir, heir_attempt=heir_attempt):
                self._programs.hand_over(command)
                self._tasks.hand_over(node, attempt, heir, heir_attempt)
            case BeginProgram(job=job):
                self._programs.begin(self._jobs[job], command)
            case FinishProgram(job=job):
                self._programs.finish(self._jobs[job], command)
            case PlanBatch(job=job):
                self._plan(self._jobs[job])
            case FinishJob(job=job, status=status):
                finishing = self._outcomes.finish_job(self._jobs.pop(job), status, self._core.corrections)
                self._tasks.spawn(finishing)
            case WatchEngine(engine=engine, after_s=after_s, reason=reason):
                log.warning("engine taken out", engine=engine, reason=reason[:500], probe_in_s=after_s)
                self._watch.bring_back(engine, after_s)
            case CallMeAt(at=at):
                self._tasks.spawn(self._wake_at(at))

    def _plan(self, job: LiveJob) -> None:
        self._have_tools_ready(job)
        if self._planning.is_quick(job):
            self._inbox.append(planned(job, self._clock.now(), ()))
        else:
            self._tasks.spawn(self._plan_aside(job))

    def _have_tools_ready(self, job: LiveJob) -> None:
        """Their processes start while the job is planned and its first calls run."""
        for spec in tools_of(job.plan):
            self._tools.prepare(spec, job.table.rows - len(job.contents.ended))

    async def _plan_aside(self, job: LiveJob) -> None:
        event = await self._planning.plan(job)
        self._post(replace(event, at=self._clock.now()))

    def _fenced(self, job_id: JobId) -> None:
        """Somebody else runs the job now: drop it here."""
        job = self._jobs.get(job_id)
        if job is not None and not job.ended.done():
            job.ended.set_exception(taken_over(job_id))
            self._post(Cancelled(self._clock.now(), job_id))

    def _job_of(self, node: NodeRef) -> LiveJob:
        return self._jobs[job_of(node.program)]

    async def _wake_at(self, at: float) -> None:
        """Not before: timers of event loops may ring a millisecond early, and the core asks only once."""
        while (left_s := at - self._clock.now()) > 0:
            await self._clock.sleep(left_s)
        self._post(WakeUp(self._clock.now()))

    def _broken(self, error: BaseException) -> None:
        """A promise of ours broke: everybody who waits for a job learns it."""
        log.error("driver failed", exc_info=error)
        for job in self._jobs.values():
            if not job.ended.done():
                job.ended.set_exception(error)
