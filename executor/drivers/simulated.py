"""The simulated driver: the same core in virtual time, against modelled engines.

Tools are really run, so that answers are real; how long they take is modelled.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from executor.child_process import ToolFailed
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
    Settle,
    Status,
    TakeShared,
    UseFallback,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.drivers.agenda import Agenda
from executor.drivers.progress import Progress
from executor.drivers.underway import Running, Underway
from executor.drivers.virtual_engines import VirtualEngine, VirtualEngines
from executor.drivers.world import ToolsRun, World
from executor.engines.answers import Answer, Answers
from executor.engines.model.engine import Finished
from executor.engines.model.prepared import prepare_call
from executor.engines.port import Completion, EngineFailed, EngineSpec, Failure, GenerateRequest
from executor.events import BatchPlanned, EngineBack, Event, JobSubmitted, NodeFailed, ToolFinished, WakeUp
from executor.planning import plan_batch
from executor.policy.rules import Rule
from executor.policy.urgency import priority_of
from executor.slo import SloClass
from executor.tool_pools import ToolPool, ToolQueue
from executor.tools import ToolRunner
from executor.values import Values
from halo_vllm.policy.hints import PROGRAM
from planner.cost.quantiles import Quantiles
from planner.ir.ids import EngineId, JobId, NodeRef, ProgramId, job_of
from planner.ir.plan import Plan, ToolSpec
from planner.ir.values import Json
from planner.table import Table


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that comes in at an instant of virtual time, in seconds. The rest is as in `JobSubmitted`."""

    at: float
    job: JobId
    plan: Plan
    table: Table
    priority: int = 0
    lengths: Mapping[str, Quantiles] = field(default_factory=dict)
    tenant: str = ""
    slo: SloClass = SloClass.STANDARD
    deadline_s: float | None = None


@dataclass(slots=True)
class SimulatedJob:
    """How a job went. `results[row]` is a program's result, or the `Failure` it ended with; `ended_at[row]` when."""

    progress: Progress
    results: dict[int, Json | Failure | None] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    status: Status | None = None


@dataclass(slots=True, eq=False)
class _Call(Running):
    engine: VirtualEngine["_Call"]
    completion: Completion


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """An answer on its way back to Halo."""

    call: Finished[_Call]


@dataclass(frozen=True, slots=True, eq=False)
class _ToolEnded:
    running: Running
    result: Json = None
    failure: Failure | None = None


_Due = Event | EngineId | Arrival | _Answered | _ToolEnded


async def simulate(
    arrivals: Sequence[Arrival],
    fleet: Sequence[EngineSpec],
    answers: Answers,
    tools: ToolRunner,
    tool_seconds: Callable[[ToolSpec], float],
    limits: Limits | None = None,
    rule: str | Rule = "halo",
) -> Mapping[JobId, SimulatedJob]:
    """Run the jobs to their ends. The same arguments give the same run, event for event, if the tools are pure."""
    simulation = Simulation(fleet, ToolsRun(answers, tools, tool_seconds), limits, rule=rule)
    return await simulation.run(arrivals)


@dataclass(frozen=True, slots=True)
class _AnswersOfNode:
    """`Answers` for one call: the world knows which node it is of."""

    world: World
    node: NodeRef

    def answer(self, request: GenerateRequest) -> Answer:
        return self.world.answer(self.node, request)


PlanJob = Callable[[JobId, Plan, Table, float, Sequence[EngineSpec]], BatchPlanned]


def plan_for(job: JobId, plan: Plan, table: Table, at: float, fleet: Sequence[EngineSpec]) -> BatchPlanned:
    """As the live driver plans."""
    return plan_batch(job, plan, table, at, fleet=fleet)


Listener = Callable[[Event, Sequence[Command]], None]


#: What becomes of a job that came in: it is taken as it is given back, comes again if that is later, or is turned away.
Gate = Callable[[Arrival, Scheduler], Arrival | None]


class Simulation:
    """One virtual world. `plan_job` plans a job that came in; the `gate` may turn it away before.

    Calls of tools in `tool_pools` wait for their turn there; any other tool is run at once. A `listener` hears each
    event with the commands it led to; without one, `events` is everything that happened, in order.
    """

    def __init__(
        self,
        fleet: Sequence[EngineSpec],
        world: World,
        limits: Limits | None = None,
        plan_job: PlanJob = plan_for,
        tool_pools: Mapping[str, ToolPool] | None = None,
        listener: Listener | None = None,
        rule: str | Rule = "halo",
        gate: Gate | None = None,
    ) -> None:
        self._plan_job, self._gate = plan_job, gate
        self._engines: VirtualEngines[_Call] = VirtualEngines(fleet)
        self._fleet = self._engines.specs
        self._core = Scheduler(self._fleet, limits, rule)
        self._values = Values()
        self._world = world
        self._arrivals: dict[JobId, Arrival] = {}
        self._jobs: dict[JobId, SimulatedJob] = {}
        self._agenda: Agenda[_Due] = Agenda()
        self._inbox: deque[Event] = deque()
        self._underway = Underway()
        self._tool_pools, self._tool_queues = tool_pools or {}, dict[str, ToolQueue]()
        self.events: list[Event] = []
        self._listener = listener or self._keep

    @property
    def now(self) -> float:
        """Seconds of virtual time since the beginning."""
        return self._agenda.now

    @property
    def iterations(self) -> int:
        """Steps that all engines took."""
        return self._engines.steps

    async def run(self, arrivals: Sequence[Arrival]) -> Mapping[JobId, SimulatedJob]:
        for found in self._engines.rungs():
            self._agenda.put(found.at, found)
        for arrival in arrivals:
            self._agenda.put(arrival.at, arrival)
        for due in self._agenda.until_empty(self._instant_ends):
            self._happen(due)
            while self._inbox:
                await self._handle(self._inbox.popleft())
        return self._jobs

    def _instant_ends(self) -> None:
        self._engines.set_alarms(self._agenda.put)

    def _happen(self, due: _Due) -> None:
        if isinstance(due, str):
            self._ring(self._engines[due])
        elif isinstance(due, Arrival):
            self._arrive(due)
        elif isinstance(due, _Answered):
            self._take_answer(due.call)
        elif isinstance(due, _ToolEnded):
            self._take_result(due)
        else:
            self._inbox.append(due)

    def _arrive(self, asked: Arrival) -> None:
        arrival = asked if self._gate is None else self._gate(asked, self._core)
        if arrival is None:
            return
        if arrival.at > self.now:
            self._agenda.put(arrival.at, arrival)
            return
        self._arrivals[arrival.job] = arrival
        self._jobs[arrival.job] = SimulatedJob(Progress(arrival.table.rows))
        submitted = JobSubmitted(
            self.now,
            arrival.job,
            arrival.plan,
            arrival.table.rows,
            arrival.priority,
            lengths=arrival.lengths,
            tenant=arrival.tenant,
            slo=arrival.slo,
            deadline_s=arrival.deadline_s,
        )
        self._inbox.append(submitted)

    async def _handle(self, event: Event) -> None:
        commands = self._core.handle(event)
        self._listener(event, commands)
        for command in commands:
            await self._perform(command)

    def _keep(self, event: Event, commands: Sequence[Command]) -> None:
        self.events.append(event)

    async def _perform(self, command: Command) -> None:
        match command:
            case Prepare() | Decide() | Settle():
                self._inbox.append(self._values.answer(command, self.now))
            case OpenFrame() | TakeShared() | KeepShared() | ForgetShared() | UseFallback():
                self._values.apply(command)
            case Dispatch():
                self._dispatch(command)
            case RunTool():
                await self._run_tool(command)
            case Abort(node=node, attempt=attempt):
                self._abort(node, attempt)
            case Hint():
                self._engines.hint(command, self.now)
            case HandOver():
                self._values.hand_over(command.node, command.heir)
                self._underway.hand_over(command)
            case BeginProgram():
                arrival = self._arrivals[command.job]
                self._values.open_program(command.program, command.plan, arrival.table.row(command.row))
            case FinishProgram():
                self._finish_program(command)
            case FinishJob(job=job, status=status):
                self._jobs[job].status = status
            case PlanBatch(job=job):
                self._plan(self._arrivals[job])
            case WatchEngine(engine=engine, after_s=after_s):
                self._agenda.put(self.now + after_s, EngineBack(self.now + after_s, engine))
            case CallMeAt(at=at):
                self._agenda.put(max(at, self.now), WakeUp(max(at, self.now)))

    def _plan(self, arrival: Arrival) -> None:
        self._inbox.append(self._plan_job(arrival.job, arrival.plan, arrival.table, self.now, self._fleet))

    def _dispatch(self, command: Dispatch) -> None:
        engine = self._engines[command.engine]
        request = replace(self._values.call(command.node), call_id=f"{command.node}@{command.attempt}")
        try:
            call = prepare_call(engine.spec, request, _AnswersOfNode(self._world, command.node), engine.profile)
        except EngineFailed as failed:
            self._inbox.append(NodeFailed(self.now, command.node, command.attempt, failed.failure))
            return
        running = _Call(command.node, command.attempt, engine, call.completion)
        self._underway.begin(running)
        priority, said = priority_of(command.due_s or 0.0), {PROGRAM: command.node.program}
        engine.model.submit(running, call.prompt_tokens, call.output_tokens, self.now, call.names, priority, said)
        self._engines.touch(engine)

    def _ring(self, engine: VirtualEngine[_Call]) -> None:
        for finished in self._engines.ring(engine, self.now):
            if engine.profile.round_trip_s:
                self._agenda.put(self.now + engine.profile.round_trip_s, _Answered(finished))
            else:
                self._take_answer(finished)

    def _take_answer(self, finished: Finished[_Call]) -> None:
        """Of a call that was aborted on its answer's way back, nobody hears."""
        call = finished.id
        if not self._underway.end(call):
            return
        completion = replace(call.completion, usage=finished.usage)
        self._job_of(call.node.program).progress.called(finished.usage)
        self._inbox.append(self._values.take_completion(call.node, call.attempt, completion, self.now))

    async def _run_tool(self, command: RunTool) -> None:
        running = Running(command.node, command.attempt)
        self._underway.begin(running)
        arguments = self._values.tool(command.node).arguments
        try:
            result, seconds = await self._world.run_tool(command.node, command.spec, arguments)
        except ToolFailed as failed:
            self._agenda.put(self.now, _ToolEnded(running, failure=failed.failure))
            return
        self._agenda.put(self._tool_ends_at(command.spec, seconds), _ToolEnded(running, result))

    def _tool_ends_at(self, spec: ToolSpec, seconds: float) -> float:
        if (pool := self._tool_pools.get(spec.name)) is None:
            return self.now + seconds
        queue = self._tool_queues.setdefault(spec.name, ToolQueue(spec, pool))
        return queue.ends_at(self.now, seconds)

    def _take_result(self, ended: _ToolEnded) -> None:
        """Of a tool whose program ended meanwhile, nobody hears."""
        if not self._underway.end(ended.running):
            return
        node, attempt = ended.running.node, ended.running.attempt
        if ended.failure is not None:
            self._inbox.append(NodeFailed(self.now, node, attempt, ended.failure))
            return
        self._values.take_tool_result(node, ended.result)
        self._inbox.append(ToolFinished(self.now, node, attempt))

    def _abort(self, node: NodeRef, attempt: int) -> None:
        running = self._underway.abort(node, attempt)
        if isinstance(running, _Call):
            running.engine.model.cancel(running, self.now)
            self._engines.touch(running.engine)

    def _finish_program(self, command: FinishProgram) -> None:
        job = self._jobs[command.job]
        succeeded = command.status is Status.SUCCEEDED
        result = self._values.output(NodeRef(command.program, "")) if succeeded else command.failure
        job.results[command.row] = result
        job.ended_at[command.row] = self.now
        job.progress.end(command.status)
        self._values.forget_program(command.program)

    def _job_of(self, program: ProgramId) -> SimulatedJob:
        return self._jobs[job_of(program)]
