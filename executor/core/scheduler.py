"""`Scheduler.handle(event) -> commands`: the one entry. Drivers perform the commands and feed the answers back."""

from collections.abc import Sequence

from executor.commands import Command
from executor.core import admitting, draining, failing, hinting, progress
from executor.core.charging import call_answered
from executor.core.check import check_state
from executor.core.dispatching import dispatch, wanting
from executor.core.knobs import Tuned
from executor.core.life import Life
from executor.core.limits import Limits
from executor.core.outlook import outlook
from executor.core.program_costs import ProgramCost
from executor.core.resuming import believe
from executor.core.sending_back import leave_slow
from executor.core.state import State
from executor.core.waiting import Doing, doings
from executor.core.work import Role, Work
from executor.core.working_sets import WorkingSets
from executor.engines.port import EngineSpec
from executor.engines.rungs import Rung
from executor.events import (
    BatchPlanned,
    CacheTold,
    CacheUntold,
    CallFinished,
    Cancelled,
    Decided,
    EngineBack,
    EngineDraining,
    EngineLost,
    EngineResumed,
    Event,
    JobSubmitted,
    NodeFailed,
    PlacesShared,
    Prepared,
    Retuned,
    RungFound,
    Settled,
    ToolFinished,
    ToolStarted,
    WakeUp,
)
from executor.policy.entrance import Outlook
from executor.policy.rules import Rule, rule_of
from halo_vllm.policy.tools import ToolKey
from planner.cost.correction import Correction
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef
from planner.ir.plan import Agent, Generate


class Scheduler:
    """A state machine: the same events give the same commands, in any process and under any hash seed.

    Answers to an attempt that is no longer current are ignored: they came too late.
    """

    def __init__(self, engines: Sequence[EngineSpec], limits: Limits | None = None, rule: str | Rule = "halo") -> None:
        """`rule` is how ready calls get engines: a name in `executor.policy.rules.RULES`, or one of one's own."""
        self._state = State(engines, limits or Limits(), rule_of(rule))

    def handle(self, event: Event) -> list[Command]:
        """What to do now that `event` has happened."""
        state = self._state
        assert event.at >= state.now, f"time runs backwards: {event} after {state.now}"
        state.now = event.at
        state.out = []
        self._take(event)
        self._follow()
        return state.out

    def check_state(self) -> None:
        """Assert what must hold between any two events."""
        check_state(self._state)

    @property
    def engines_up(self) -> dict[EngineId, bool]:
        """Which engines are believed to answer."""
        return {engine: view.up for engine, view in self._state.fleet.views.items()}

    @property
    def draining(self) -> set[EngineId]:
        """The engines that take no calls, though they may answer."""
        return {engine for engine, view in self._state.fleet.views.items() if view.draining}

    def running(self) -> dict[EngineId, int]:
        """How many calls each engine has."""
        return self._state.fleet.running()

    def calls(self, life: Life) -> int:
        """How many calls are at that step of their life."""
        programs = self._state.programs.values()
        return sum(work.role is Role.CALL and work.life is life for one in programs for work in one.live.values())

    def wanting(self) -> set[EngineId]:
        """The engines without a place for calls that are ready."""
        return wanting(self._state)

    @property
    def sets(self) -> WorkingSets[Work]:
        """The conversations of agents that have room in the engines' KV."""
        return self._state.sets

    @property
    def outlook(self) -> Outlook:
        """The work that was taken, and how quickly it is done."""
        return outlook(self._state)

    def cost_of(self, workflow: str) -> ProgramCost:
        """What programs of the workflow cost, as far as any have ended."""
        return self._state.costs.of(workflow)

    @property
    def corrections(self) -> dict[EngineId, Correction]:
        """How far each engine is from what is believed of it."""
        return dict(self._state.fleet.corrections)

    @property
    def tuned(self) -> Tuned:
        """The bounds and the rule it works by now."""
        return Tuned(self._state.limits, self._state.rule)

    def doings(self, job: JobId, limit: int = 1000) -> Sequence[Doing]:
        """What the job's programs do now, and why what waits does."""
        return doings(self._state, job, limit)

    def _take(self, event: Event) -> None:
        state = self._state
        match event:
            case Prepared():
                self._prepared(event)
            case CallFinished():
                self._call_finished(event)
            case ToolFinished(node=node, attempt=attempt):
                if work := self._current(node, attempt, Life.RUNNING):
                    failing.free_slot(state, work)
                    progress.finish(state, work)
            case Settled(node=node, attempt=attempt):
                if work := self._current(node, attempt, Life.SETTLING):
                    progress.finish(state, work)
            case Decided(node=node, attempt=attempt, choice=choice):
                if work := self._current(node, attempt, Life.DECIDING):
                    progress.decided(state, work, choice)
            case NodeFailed(node=node, attempt=attempt, failure=failure):
                if work := self._current(node, attempt, None):
                    failing.node_failed(state, work, failure)
            case JobSubmitted():
                admitting.submit(state, event)
            case BatchPlanned():
                admitting.planned(state, event)
            case EngineLost(engine=engine, detail=detail):
                failing.lose_engine(state, engine, detail)
            case EngineBack(engine=engine):
                self._engine_back(event)
            case EngineDraining(engine=engine):
                draining.drain(state, engine)
            case EngineResumed(engine=engine):
                draining.resume(state, engine)
            case PlacesShared():
                state.fleet.leave_room(event.engine, event.for_others, event.kv_for_others)
            case RungFound(engine=engine, rung=rung):
                state.sets.trust(engine, itself=rung is Rung.PLUGIN)
            case CacheTold(engine=engine, events=events):
                state.fleet.caches[engine].told(events)
            case CacheUntold(engine=engine):
                state.fleet.caches[engine].untold()
            case Cancelled(job=job):
                if job in state.jobs:
                    failing.cancel_job(state, state.jobs[job])
            case WakeUp():
                failing.requeue_due(state)
                failing.fail_stranded(state)
            case Retuned(setting=setting):
                state.retune(setting)
            case ToolStarted():
                pass  # kept in the journal: it tells when a tool really began

    def _follow(self) -> None:
        """Everything the event made possible, until nothing more is."""
        state = self._state
        while True:
            progress.advance(state)
            while state.broken:
                failing.give_up_broken(state, *state.broken.popleft())
            admitting.admit(state)
            if not state.agenda:
                dispatch(state)
            if not state.agenda and not state.broken:
                break
        admitting.finish_jobs(state)

    def _current(self, node: NodeRef, attempt: int, life: Life | None) -> Work | None:
        program = self._state.programs.get(node.program)
        work = program.live.get(node.path) if program else None
        if work is None or work.attempt != attempt or (life is not None and work.life is not life):
            return None
        return work

    def _prepared(self, event: Prepared) -> None:
        work = self._current(event.node, event.attempt, Life.PREPARING)
        if work is None:
            return
        work.prompt_tokens, work.output_tokens, work.prefix = event.prompt_tokens, event.output_tokens, event.prefix
        if event.recalled:
            progress.recalled(self._state, work, event.key, event.tools)
            return
        key = event.key
        if key is not None and self._may_share(work, key) and progress.share(self._state, work, key, None):
            return
        believe(self._state, work)
        progress.enqueue(self._state, work)

    def _may_share(self, work: Work, key: ContentKey) -> bool:
        """Not with a call on engines that are kept from this one's tenant: it would go on there for a stranger."""
        if work.role is Role.TOOL:
            return True
        fleet, entry = self._state.fleet, self._state.shared.get(key)
        pool = fleet.pool_of(work.model, work.program.tenant)
        return fleet.knows(pool) and (entry is None or entry.owner is None or entry.owner.pool == pool)

    def _call_finished(self, event: CallFinished) -> None:
        state, work = self._state, self._current(event.node, event.attempt, Life.RUNNING)
        if work is None:
            return
        assert work.role is Role.CALL
        program, usage, engine = work.program, event.usage, work.engine
        assert engine is not None
        program.engine, program.context_tokens = work.engine, usage.prompt_tokens + usage.output_tokens
        hinting.turn_answered(work)
        call_answered(state, work, usage)
        state.fleet.learn(work, work.ref.program, usage, event.at)
        state.fleet.answered(state.fleet.leave(work))
        program.kept_until = self._keep(work, event)
        assert isinstance(work.stage, Generate | Agent)
        state.lengths.learn(work.stage, usage.output_tokens)
        state.stages.learn(work.stage, usage)
        state.remaining.call_took(work.stage, event.at - work.sent_at)
        leave_slow(state, engine, work.pool)
        program.turns += 1
        program.attained_tokens += usage.prompt_tokens + usage.output_tokens
        progress.finish(state, work, event.tools)

    def _keep(self, work: Work, event: CallFinished) -> float | None:
        """Until when an agent's conversation keeps its room over the tools that it asks for."""
        if work.conversation is None or not event.tools:
            return None
        return self._state.sets.answered(work.conversation, work, [ToolKey(name) for name in event.tools], event.at)

    def _engine_back(self, event: EngineBack) -> None:
        self._state.fleet.back(event.engine, event.kv_tokens)
        if not self._state.fleet.views[event.engine].draining:
            draining.nobody_strands(self._state, event.engine)
