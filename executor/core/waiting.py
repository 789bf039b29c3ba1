"""What each program of a job does now, and why what waits does: asked of the core when somebody wants to know."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from executor.core.life import Life
from executor.core.state import Job, State
from executor.core.work import Program, Role, Work
from executor.policy.fairness import Account
from planner.ir.ids import EngineId, JobId


@dataclass(frozen=True, slots=True)
class Doing:
    """A live call or tool at `path` of a row; a row that has not begun has an empty path. `waits` is false where it
    runs."""

    row: int
    path: str
    attempt: int
    waits: bool
    why: str
    engine: EngineId | None = None


def doings(state: State, job: JobId, limit: int) -> Sequence[Doing]:
    """Of no more than `limit` calls, tools and rows; none where the job is not known here."""
    found = state.jobs.get(job)
    return [] if found is None else list(islice(_all(state, found), limit))


def _all(state: State, job: Job) -> Iterator[Doing]:
    for program in state.programs.values():
        if program.job != job.id:
            continue
        for work in program.live.values():
            if (why := _why(state, work)) is not None:
                waits = work.life is not Life.RUNNING
                yield Doing(program.row, work.ref.path, work.attempt, waits, why, work.engine)
    if job.pending:
        why = _why_not_begun(state, job)
        for row in job.pending:
            yield Doing(row, "", 0, waits=True, why=why)


def _why(state: State, work: Work) -> str | None:
    """None for what only waits for its own parts."""
    match work.life:
        case Life.RUNNING:
            return "runs" if work.tool is None else f"the tool {work.tool.name} runs"
        case Life.HELD:
            return _why_held(state, work)
        case Life.QUEUED:
            return _why_queued(state, work)
        case Life.DELAYED:
            assert work.failed is not None
            return f"tried again later: {work.failed.code}: {work.failed.message}"
        case Life.WAITING:
            return "another program does the same work; its answer will be taken"
        case Life.PREPARING:
            return "its prompt is being prepared"
        case _:
            return None


def _why_held(state: State, work: Work) -> str:
    for held in state.sets.held(work.pool):
        if held.call is work:
            why = "not asked about yet" if held.why is None else held.why.value
            return f"held until an engine's KV has room for its conversation: {why}"
    return "held until an engine's KV has room for its conversation"


def _why_queued(state: State, work: Work) -> str:
    if work.role is Role.TOOL:
        assert work.tool is not None
        return f"{work.tool.name} runs as often at once as it may ({work.tool.most_in_flight})"
    model, serving = work.model, state.fleet.serving(work.pool)
    if not serving:
        return f"no engine that serves {model} answers and takes calls"
    if work.suspect:
        return "engines died with it twice: it waits for one that is empty"
    if not state.fleet.with_room(work.pool):
        running = sum(view.running for view in serving)
        turns = _turns_in_line(state, work.program.account)
        return f"all {len(serving)} engines that serve {model} are full ({running} calls){turns}"
    if not any(state.is_open(work, view.spec.id) for view in state.fleet.with_room(work.pool)):
        return "engines with room are quiet for tenants that ask for little: it goes there a little later"
    return "other calls go first, or another engine will be done with it earlier"


def _turns_in_line(state: State, account: Account) -> str:
    waiting = {program.account for program in state.programs.values() if _has_queued(program)} | {account}
    turns = _turns({one.tenant for one in waiting})
    ahead_s = state.turns.had_s(account) - min(state.turns.had_s(one) for one in waiting)
    return f"{turns}; this one had {ahead_s:.1f} s more than who had least" if turns else ""


def _has_queued(program: Program) -> bool:
    return any(work.life is Life.QUEUED for work in program.live.values())


def _why_not_begun(state: State, job: Job) -> str:
    share = state.entering.shares.share(job.tenant)
    if share.running is not None and state.running_of[job.tenant] >= share.running:
        return f"as many programs of its tenant run as may ({share.running})"
    turns = _turns({account.tenant for account in state.entering.accounts})
    if len(state.programs) >= state.limits.active_programs:
        return f"as many programs run as may ({state.limits.active_programs}){turns}"
    return f"other jobs go first{turns}"


def _turns(tenants: Collection[str]) -> str:
    if len(tenants) < 2:
        return ""
    return f"; {len(tenants)} tenants wait, and take turns by what each had of the engines' time"
