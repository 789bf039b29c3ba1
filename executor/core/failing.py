"""What happens when something goes wrong: try again, answer otherwise, or end the program."""

from executor.commands import Abort, CallMeAt, FinishProgram, HandOver, Status, UseFallback, WatchEngine
from executor.core import hinting
from executor.core.admitting import leave
from executor.core.charging import call_failed, call_handed_over
from executor.core.draining import leave_line_of
from executor.core.life import Life
from executor.core.progress import enqueue, finish, program_ended, restart, share
from executor.core.state import Job, State
from executor.core.work import Program, Role, Work
from executor.engines.port import Failure, FailureClass
from executor.policy.retry import GiveUp, decide_retry
from planner.ir.ids import EngineId
from planner.ir.plan import Agent, Effect, Generate, Tool

OVER_BUDGET_S = 5.0


def node_failed(state: State, work: Work, failure: Failure) -> None:
    ran = work.life is Life.RUNNING
    engine = work.engine
    if ran:
        free_slot(state, work)
    if engine is not None:
        _blame(state, engine, failure, work.program)
    verdict = decide_retry(work.ref, failure, work.tries, _retries(work, failure))
    if isinstance(verdict, GiveUp) or not ran:
        give_up(state, work, verdict.failure if isinstance(verdict, GiveUp) else failure)
        return
    work.tries, work.failed = verdict.tries, failure
    if work.conversation is not None:
        state.sets.failed(work.conversation, elsewhere=verdict.elsewhere)
    if verdict.elsewhere and engine is not None:
        work.avoid = (*work.avoid, engine)
    over_budget = failure.failure_class is FailureClass.ENGINE and not state.fleet.spend_retry()
    _again(state, work, verdict.after_s + (OVER_BUDGET_S if over_budget else 0.0))


def give_up(state: State, work: Work, failure: Failure) -> None:
    """The node failed for good. Nodes that waited for its answer try for themselves: a failure is never copied."""
    _release_waiting(state, work, alone=True)
    if work.agent is not None and work.role is Role.CALL:
        state.sets.leave(str(work.agent.ref), state.now)
        hinting.agent_ended(state, work.agent)
        work.become(Life.FAILED)
        del work.program.live[work.ref.path]
        give_up(state, work.agent, failure)
    elif work.agent is not None or _falls_back(work, failure):
        state.tell(UseFallback(work.ref, work.scope, failure))
        finish(state, work)
    else:
        work.become(Life.FAILED)
        end_program(state, work.program, Status.FAILED, failure)


def give_up_broken(state: State, work: Work, failure: Failure) -> None:
    """Another node may have ended its program meanwhile."""
    if not work.program.ended:
        give_up(state, work, failure)


def end_program(state: State, program: Program, status: Status, failure: Failure | None) -> None:
    """Stop everything the program still does."""
    program.ended = True
    del state.programs[program.id]
    live, program.live = list(program.live.values()), {}
    for work in live:
        _drop(state, work)
    state.tell(FinishProgram(program.id, program.job, program.row, status, failure))
    state.jobs[program.job].failed += 1
    program_ended(state, program, succeeded=False)


def cancel_job(state: State, job: Job) -> None:
    job.pending.clear()
    ending = [program for program in state.programs.values() if program.job == job.id]
    for program in ending:
        program.ended = True  # so that none is heir to another
    for program in ending:
        end_program(state, program, Status.CANCELLED, None)
    leave(state, job, Status.CANCELLED)


def lose_engine(state: State, engine: EngineId, detail: str) -> None:
    """Everything inside the engine is lost with it."""
    if state.fleet.views[engine].up:
        _take_out(state, engine, detail or "no answer")
    failure = Failure(FailureClass.ENGINE_DIED, "engine_lost", f"engine {engine!r} was lost: {detail or 'no answer'}")
    for work in list(state.fleet.inside[engine]):
        state.tell(Abort(work.ref, work.attempt))
        node_failed(state, work, failure)


def fail_stranded(state: State) -> None:
    """Calls of which for too long no engine that may take them took any are given up."""
    for pool, since in list(state.stranded.items()):
        if state.now < since + state.limits.no_engine_s:
            continue
        del state.stranded[pool]
        while held := state.sets.held(pool):
            _give_up_stranded(state, held[0].call)
        for work in list(state.lines_of(pool).take_all()):
            _give_up_stranded(state, work)
        while frontiers := state.calls_of(pool).frontiers():
            _give_up_stranded(state, frontiers[0].take(frontiers[0].any()))


def _give_up_stranded(state: State, work: Work) -> None:
    message = f"no engine that serves {work.model!r} answered and took calls for {state.limits.no_engine_s:g} s"
    give_up(state, work, Failure(FailureClass.ENGINE, "no_engine", message))


def free_slot(state: State, work: Work) -> None:
    """A running node left its engine or its tool."""
    if work.role is Role.TOOL:
        state.tools.leave(work)
    else:
        call_failed(state, work)
        state.fleet.leave(work)


def requeue_due(state: State) -> None:
    for work in state.delayed.due(state.now):
        work.attempt += 1
        enqueue(state, work)


def _again(state: State, work: Work, after_s: float) -> None:
    work.become(Life.DELAYED)
    state.delayed.push(work, state.now + after_s)
    state.tell(CallMeAt(state.now + after_s))


def _blame(state: State, engine: EngineId, failure: Failure, program: Program) -> None:
    if state.fleet.failed(state.fleet.views[engine], failure, program.id):
        _take_out(state, engine, f"{failure.code}: {failure.message}")


def _take_out(state: State, engine: EngineId, reason: str) -> None:
    state.fleet.down(engine)
    leave_line_of(state, engine)
    state.tell(WatchEngine(engine, state.fleet.probe_delay_s(engine), reason))


def _retries(work: Work, failure: Failure) -> int:
    """How often the node may fail by its own fault; trying again where the answer is fixed would change nothing."""
    if work.role is Role.TOOL:
        return 0 if work.tool is None or work.tool.effect is Effect.UNSAFE else work.tool.retries
    stage = work.scope.stage
    if isinstance(stage, Generate | Agent) and not (stage.sampling.fixed and failure.code == "invalid_answer"):
        return stage.retries
    return 0


#: What a fleet does to a call. A fallback answers for a stage, not for engines that are away: a program that no
#: engine could run has failed, and says so.
_FLEET_FAULTS = (FailureClass.ENGINE, FailureClass.ENGINE_DIED, FailureClass.RATE)


def _falls_back(work: Work, failure: Failure) -> bool:
    stage = work.scope.stage
    has_one = isinstance(stage, Generate | Tool | Agent) and stage.fallback is not None
    return has_one and failure.failure_class not in _FLEET_FAULTS


def _drop(state: State, work: Work) -> None:
    if work.life in (Life.DONE, Life.FAILED):
        return
    heir = state.shared.heir(work) if work.life is Life.RUNNING else None
    if heir is not None:
        _hand_over(state, work, heir)
        return
    if work.conversation is not None:
        state.sets.leave(work.conversation, state.now)
    if work.life is Life.RUNNING:
        state.tell(Abort(work.ref, work.attempt))
        free_slot(state, work)
    if work.waits_for is not None:
        state.shared.leave(work)
    work.become(Life.DROPPED)
    _release_waiting(state, work, alone=False)


def _hand_over(state: State, work: Work, heir: Work) -> None:
    """Somebody else needs what runs: it goes on, as theirs. `work` stays where engines and tools are counted."""
    state.tell(HandOver(work.ref, work.attempt, heir.ref, heir.attempt + 1))
    state.shared.inherit(work, heir)
    if work.conversation is not None and heir.conversation is not None:
        state.sets.pass_on(work.conversation, heir.conversation, work, state.now)
    if work.role is Role.CALL:
        call_handed_over(state, work, heir)
    work.replace(heir)
    heir.become(Life.DROPPED)


def _release_waiting(state: State, work: Work, *, alone: bool) -> None:
    keys, work.keys = work.keys, []
    for key in keys:
        entry = state.shared.get(key)
        assert entry is not None
        uses = entry.uses_left
        for other in state.shared.abandon(key):
            other.alone = alone
            if other.program.ended or (not alone and share(state, other, key, uses)):
                continue
            restart(state, other)
