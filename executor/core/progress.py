"""How a program moves on: a stage whose inputs are done begins, a finished one lets those behind it begin."""

from executor.commands import (
    Decide,
    FinishProgram,
    ForgetShared,
    KeepShared,
    OpenFrame,
    Prepare,
    SaveNode,
    Scope,
    Settle,
    Status,
    TakeShared,
)
from executor.core import hinting
from executor.core.binding import goes_by_rule
from executor.core.binding import line_up as wait_by_rule
from executor.core.charging import program_ends
from executor.core.life import Life
from executor.core.sharing import Entry
from executor.core.state import State
from executor.core.unserved import nobody_serves
from executor.core.work import Frame, Program, Role, Work, open_frame
from executor.engines.port import Failure, FailureClass
from planner.interpret import branch_body
from planner.ir.ids import ContentKey, NodeRef
from planner.ir.paths import branch_prefix, item_prefix, round_prefix, tool_path, turn_path
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool

_ROLES: dict[type[Stage], Role] = {
    Generate: Role.CALL,
    Tool: Role.TOOL,
    Choose: Role.CONTAINER,
    Map: Role.CONTAINER,
    Loop: Role.CONTAINER,
    Agent: Role.AGENT,
    Join: Role.GATHER,
}

#: Marks in `State.agenda`, where other numbers are the index of a stage that can begin.
FRAME_DONE = -1


def begin_program(state: State, program: Program) -> None:
    _begin_frame(state, program, program.plan, "", None)


def advance(state: State) -> None:
    """Do what has become possible, until nothing more is."""
    while state.agenda:
        frame, program, index = state.agenda.popleft()
        if program.ended:
            continue
        if index == FRAME_DONE:
            _frame_done(state, program, frame)
        else:
            _begin_stage(state, program, frame, index)


def start(state: State, work: Work) -> None:
    """Begin the node's own work: nobody else does it."""
    match work.role:
        case Role.CALL | Role.TOOL:
            work.attempt += 1
            work.become(Life.PREPARING)
            state.preparing.append(work)
            state.tell(Prepare(work.ref, work.attempt, work.scope, work.turn))
        case Role.CONTAINER:
            _decide(state, work)
        case Role.AGENT:
            work.become(Life.OPEN)
            _open_turn(state, work)
        case Role.GATHER:
            _settle(state, work)


def share(state: State, work: Work, key: ContentKey, uses: int | None) -> bool:
    """True when the node need not run: its answer is known, or another node is at it."""
    entry = state.shared.get(key)
    if entry is None:
        state.shared.own(key, work, uses)
        return False
    state.shared.join(entry, work.program.job, uses)
    if entry.done_by is not None:
        _take(state, work, entry)
        return True
    work.become(Life.WAITING)
    state.shared.wait(entry, work)
    return True


def restart(state: State, work: Work) -> None:
    """A node that waited for another's answer, which will not come, begins its own work."""
    if work.attempt:
        enqueue(state, work)
    else:
        start(state, work)


def enqueue(state: State, work: Work) -> None:
    if work.role is Role.TOOL:
        work.become(Life.QUEUED)
        state.tools.push(work)
        return
    work.pool = state.fleet.pool_of(work.model, work.program.tenant)
    if work.conversation is None or state.sets.asks(work, work.conversation, work.program.order, state.now):
        line_up(state, work)
    else:
        work.become(Life.HELD)


def line_up(state: State, work: Work) -> None:
    """The call may go to an engine."""
    assert isinstance(work.stage, Generate | Agent)
    work.become(Life.QUEUED)
    work.shares = state.jobs[work.program.job].shares_of(work)
    if not state.fleet.knows(work.pool):
        specs = [view.spec for view in state.fleet.views.values()]
        state.broken.append((work, nobody_serves(specs, work.model, work.program.tenant)))
        return
    if not work.asked:
        work.asked = True
        state.stages.asks(work.stage, work.prompt_tokens)
    if goes_by_rule(state, work):
        wait_by_rule(state, work)
    else:
        state.calls_of(work.pool).push(work)


def decided(state: State, work: Work, choice: int) -> None:
    """A container knows where it goes."""
    if isinstance(work.stage, Loop | Choose):
        state.remaining.went(work.stage, work.parts, choice)
    match work.stage:
        case Choose() as stage:
            work.parts = choice
            _open(state, work, [(branch_prefix(work.ref.path, choice), branch_body(stage, choice), choice)])
        case Map() as stage:
            work.parts = choice
            _open(state, work, [(item_prefix(work.ref.path, i), stage.body, i) for i in range(choice)])
        case Loop() as stage if not choice:
            _open(state, work, [(round_prefix(work.ref.path, work.parts), stage.body, work.parts)])
        case _:
            _settle(state, work)


def finish(state: State, work: Work, tools: tuple[str, ...] = ()) -> None:
    """The node's output is known: store it, give it to whoever waits for it, and go on behind it."""
    work.become(Life.DONE)
    if work.role is not Role.GATHER:
        state.tell(SaveNode(work.ref, work.attempt))
    _publish(state, work, tools)
    _behind(state, work, tools)


def recalled(state: State, work: Work, key: ContentKey | None, tools: tuple[str, ...]) -> None:
    """An earlier job did this node's work: the answer is at hand, for others with the same key too."""
    if key is not None and state.shared.get(key) is None:
        state.shared.own(key, work, None)
    work.become(Life.DONE)
    state.tell(SaveNode(work.ref, work.attempt, recalled=True))
    _publish(state, work, tools)
    _behind(state, work, tools)


def drop_key(state: State, key: ContentKey) -> None:
    state.shared.forget(key)
    state.tell(ForgetShared(key))


def _begin_frame(state: State, program: Program, plan: Plan, prefix: str, owner: Work | None) -> None:
    frame = open_frame(state.jobs[program.job].templates.of(plan), prefix, owner)
    if not frame.left:
        state.agenda.append((frame, program, FRAME_DONE))
    for index, needs in enumerate(frame.needs):
        if not needs:
            state.agenda.append((frame, program, index))


def _begin_stage(state: State, program: Program, frame: Frame, index: int) -> None:
    stage = frame.template.stages[index]
    ref = NodeRef(program.id, frame.prefix + stage.id)
    work = Work(ref, program, frame, Scope(frame.prefix, stage), _ROLES[type(stage)], index)
    if isinstance(stage, Tool):
        work.tool = stage.tool
    known = state.jobs[program.job].shared_key(stage.id, program.row) if frame.owner is None else None
    _begin(state, work, known)


def _begin(state: State, work: Work, known: tuple[ContentKey, int] | None = None) -> None:
    recovered = work.program.recovered
    work.program.live[work.ref.path] = work
    if work.ref.path in recovered.done:
        _recover(state, work, known, recovered.done[work.ref.path])
    elif work.ref.path in recovered.interrupted:
        state.broken.append((work, _interrupted(work)))
    elif work.role is Role.GATHER or known is None or not share(state, work, *known):
        start(state, work)


def _recover(state: State, work: Work, known: tuple[ContentKey, int] | None, tools: tuple[str, ...]) -> None:
    """An earlier process did this node; others may still need its answer."""
    if known is not None and state.shared.get(known[0]) is None:
        state.shared.own(known[0], work, known[1])
    work.become(Life.DONE)
    _publish(state, work, tools)
    _behind(state, work, tools)


def _interrupted(work: Work) -> Failure:
    message = (
        f"the tool at {work.ref.path!r} is `unsafe` and was running when the process died; "
        "find out what it did, then submit the program again"
    )
    return Failure(FailureClass.ROW, "needs_attention", message)


def _publish(state: State, work: Work, tools: tuple[str, ...]) -> None:
    keys, work.keys = work.keys, []
    for key in keys:
        entry, waiting = state.shared.finish(key, tools)
        if entry.uses_left is not None:
            entry.uses_left -= 1
        if entry.uses_left == 0 and not waiting:
            state.shared.forget(key)
            continue
        state.tell(KeepShared(work.ref, key))
        for other in waiting:
            _take(state, other, entry)
    for key in state.shared.overfull():
        drop_key(state, key)


def _take(state: State, work: Work, entry: Entry) -> None:
    assert entry.done_by is not None
    work.become(Life.DONE)
    state.tell(TakeShared(work.ref, entry.key))
    state.tell(SaveNode(work.ref, work.attempt, shared_from=entry.done_by))
    if state.shared.take(entry):
        drop_key(state, entry.key)
    _publish(state, work, entry.tools)
    _behind(state, work, entry.tools)


def _behind(state: State, work: Work, tools: tuple[str, ...]) -> None:
    """What may go on now that the node is done."""
    del work.program.live[work.ref.path]
    if work.agent is not None:
        _agent_part_done(state, work.agent, work, tools)
    elif work.index < 0:
        _finish_program(state, work.program)
    else:
        _stage_done(state, work.program, work.frame, work.index)


def _stage_done(state: State, program: Program, frame: Frame, index: int) -> None:
    frame.left -= 1
    for reader in frame.template.feeds[index]:
        frame.needs[reader] -= 1
        if not frame.needs[reader]:
            state.agenda.append((frame, program, reader))
    if not frame.left:
        state.agenda.append((frame, program, FRAME_DONE))


def _frame_done(state: State, program: Program, frame: Frame) -> None:
    owner = frame.owner
    if owner is None:
        result = Work(NodeRef(program.id, ""), program, frame, Scope("", None), Role.GATHER)
        _begin(state, result)
        return
    owner.open_parts -= 1
    if owner.open_parts:
        return
    if not isinstance(owner.stage, Loop):
        _settle(state, owner)
        return
    owner.parts += 1
    if owner.parts < owner.stage.max_rounds:
        _decide(state, owner)
    else:
        _settle(state, owner)


def _decide(state: State, work: Work) -> None:
    work.attempt += 1
    work.become(Life.DECIDING)
    state.tell(Decide(work.ref, work.attempt, work.scope, work.parts))


def _settle(state: State, work: Work) -> None:
    work.attempt += 1
    work.become(Life.SETTLING)
    state.tell(Settle(work.ref, work.attempt, work.scope, work.parts))


def _open(state: State, work: Work, bodies: list[tuple[str, Body, int]]) -> None:
    if not bodies:
        _settle(state, work)
        return
    work.become(Life.OPEN)
    work.open_parts = len(bodies)
    for prefix, body, branch in bodies:
        state.tell(OpenFrame(work.ref, work.scope, prefix, branch))
        _begin_frame(state, work.program, body.plan, prefix, work)


def _open_turn(state: State, agent: Work) -> None:
    ref = NodeRef(agent.program.id, turn_path(agent.ref.path, agent.parts))
    _begin(state, Work(ref, agent.program, agent.frame, agent.scope, Role.CALL, agent=agent, turn=agent.parts))


def _agent_part_done(state: State, agent: Work, work: Work, tools: tuple[str, ...]) -> None:
    assert isinstance(agent.stage, Agent)
    if work.role is Role.TOOL:
        agent.open_parts -= 1
        if not agent.open_parts:
            hinting.tools_finished(state, agent)
            _open_turn(state, agent)
        return
    agent.parts += 1
    if not tools or agent.parts >= agent.stage.max_turns:
        state.sets.leave(str(agent.ref), state.now)
        hinting.agent_ended(state, agent)
        _settle(state, agent)
    else:
        hinting.tools_called(state, agent, tools)
        _open_tools(state, agent, tools)


def _open_tools(state: State, agent: Work, names: tuple[str, ...]) -> None:
    assert isinstance(agent.stage, Agent)
    agent.open_parts = len(names)
    specs = {spec.name: spec for spec in agent.stage.tools}
    turn = agent.parts - 1
    for index, name in enumerate(names):
        ref = NodeRef(agent.program.id, tool_path(agent.ref.path, turn, index))
        work = Work(ref, agent.program, agent.frame, agent.scope, Role.TOOL, agent=agent, turn=turn)
        work.tool = specs.get(name)
        _begin(state, work)


def _finish_program(state: State, program: Program) -> None:
    assert not program.live, f"{program.id} ends with live nodes {sorted(program.live)}"
    program.ended = True
    del state.programs[program.id]
    state.tell(FinishProgram(program.id, program.job, program.row, Status.SUCCEEDED))
    program_ended(state, program, succeeded=True)


def program_ended(state: State, program: Program, *, succeeded: bool) -> None:
    program_ends(state, program, succeeded=succeeded)
    hinting.program_ended(state, program)
    job = state.jobs[program.job]
    job.left -= 1
    if not job.left:
        state.ended_jobs.append(job)
