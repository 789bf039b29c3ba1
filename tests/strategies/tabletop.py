"""A driver on a table top: the real core and the real values, with calls and tools answered by a `World` in an order a
seeded generator shuffles, and faults where the test wants them. Checks the core's state after every event."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

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
    KeepShared,
    OpenFrame,
    PlanBatch,
    Prepare,
    RunTool,
    SaveNode,
    Settle,
    Stage,
    Status,
    TakeShared,
    UseFallback,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import Completion, EngineSpec, Failure, FailureClass, Usage
from executor.events import (
    EngineBack,
    Event,
    JobSubmitted,
    NodeFailed,
    Recovered,
    ToolFinished,
    WakeUp,
)
from executor.planning import plan_batch
from executor.values import Values
from planner.interpret import StageFailed, World
from planner.ir.ids import EngineId, JobId, NodeRef
from planner.ir.plan import Agent, Generate, Plan
from planner.ir.values import Json
from planner.table import Table

FLEET = (
    EngineSpec(EngineId("a100"), "scripted", ("small", "large"), gpu="A100", max_running=3),
    EngineSpec(EngineId("l40s"), "scripted", ("small", "large"), gpu="L40S", max_running=2),
)

_Open = Dispatch | RunTool | CallMeAt | WatchEngine
Faults = Callable[[Dispatch | RunTool], Failure | None]


def no_faults(command: Dispatch | RunTool) -> Failure | None:
    return None


@dataclass
class Tabletop:
    """`results[row]` is what the program gave, or the `Failure` it ended with."""

    world: World
    seed: int = 0
    fleet: Sequence[EngineSpec] = FLEET
    limits: Limits = Limits(active_programs=3)  # noqa: RUF009 - frozen
    faults: Faults = no_faults
    stop_after: int | None = None
    results: dict[int, Json | Failure] = field(default_factory=dict)
    saved: dict[NodeRef, Json] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    status: Status | None = None

    def run(
        self,
        plan: Plan,
        rows: Sequence[Mapping[str, Json]],
        recovered: Mapping[int, Recovered] | None = None,
        stored: Mapping[NodeRef, Json] | None = None,
        ended: Sequence[int] = (),
    ) -> "Tabletop":
        self.core, self.values, self.random = Scheduler(self.fleet, self.limits), Values(), Random(self.seed)
        self.plan, self.table = plan, Table.from_rows(rows, plan.inputs)
        self.stored = stored or {}
        self.stages: dict[NodeRef, Stage] = {}
        self.open: list[_Open] = []
        self.probes_due: dict[EngineId, float] = {}
        self.now = 0.0
        job = JobId("job")
        self.feed(JobSubmitted(0.0, job, plan, self.table.rows, 0, ended, recovered or {}))
        while self.open and (self.stop_after is None or len(self.events) < self.stop_after):
            self._answer(self.open.pop(self._pick()))
        return self

    def feed(self, event: Event) -> None:
        inbox = [event]
        while inbox:
            event = inbox.pop(0)
            self.events.append(event)
            commands = self.core.handle(event)
            self.core.check_state()
            for command in commands:
                self.commands.append(command)
                inbox.extend(self._perform(command))

    def _pick(self) -> int:
        """Any of them: nobody knows what ends first. But no alarm rings before a probe that was due earlier."""
        first_probe = min(self.probes_due.values(), default=math.inf)
        possible = [i for i, c in enumerate(self.open) if not (isinstance(c, CallMeAt) and c.at > first_probe)]
        return self.random.choice(possible)

    def _perform(self, command: Command) -> list[Event]:
        match command:
            case PlanBatch(job=job):
                return [plan_batch(job, self.plan, self.table, self.now)]
            case Prepare() | Decide() | Settle():
                if command.scope.stage is not None:
                    self.stages[command.node] = command.scope.stage
                return [self.values.answer(command, self.now)]
            case OpenFrame() | TakeShared() | KeepShared() | ForgetShared() | UseFallback():
                self.values.apply(command)
            case BeginProgram(program=program, row=row, plan=plan):
                outputs = {node.path: value for node, value in self.stored.items() if node.program == program}
                self.values.open_program(program, plan, self.table.row(row), outputs)
            case SaveNode(node=node):
                self.saved[node] = self.values.output(node)
            case FinishProgram(program=program, row=row, status=status, failure=failure):
                assert row not in self.results, f"row {row} ended twice"
                succeeded = status is Status.SUCCEEDED
                self.results[row] = self.values.output(NodeRef(program, "")) if succeeded else failure
                self.values.forget_program(program)
            case FinishJob(status=status):
                self.status = status
            case Dispatch() | RunTool() | CallMeAt():
                self.open.append(command)
            case WatchEngine(engine=engine, after_s=after_s):
                self.probes_due[engine] = self.now + after_s
                self.open.append(command)
            case HandOver(node=node, heir=heir):
                self.values.hand_over(node, heir)
                self.stages[heir] = self.stages[node]
                self.open = [_handed_over(c, command) for c in self.open]
            case Abort(node=node, attempt=attempt):
                self.open = [c for c in self.open if not _is_for(c, node, attempt)]
        return []

    def _answer(self, command: Dispatch | RunTool | CallMeAt | WatchEngine) -> None:
        self.now += 0.001
        match command:
            case CallMeAt(at=at):
                self.now = max(self.now, at)
                self.feed(WakeUp(self.now))
            case WatchEngine(engine=engine):
                del self.probes_due[engine]
                self.feed(EngineBack(self.now, engine))
            case Dispatch(node=node, attempt=attempt) | RunTool(node=node, attempt=attempt):
                work = self._call if isinstance(command, Dispatch) else self._tool
                fault = self.faults(command)
                self.feed(NodeFailed(self.now, node, attempt, fault) if fault else work(node, attempt))

    def _call(self, node: NodeRef, attempt: int) -> Event:
        stage = self.stages[node]
        assert isinstance(stage, Generate | Agent)
        request = self.values.call(node)
        try:
            reply = self.world.generate(node.path, stage, list(request.messages))
        except StageFailed as error:
            return NodeFailed(self.now, node, attempt, Failure(FailureClass.ROW, error.code, error.message))
        completion = Completion(reply.text, Usage(1, 1), reply.tool_calls)
        return self.values.take_completion(node, attempt, completion, self.now)

    def _tool(self, node: NodeRef, attempt: int) -> Event:
        request = self.values.tool(node)
        try:
            result = self.world.tool(node.path, request.spec, request.arguments)
        except StageFailed as error:
            return NodeFailed(self.now, node, attempt, Failure(FailureClass.TOOL, error.code, error.message))
        self.values.take_tool_result(node, result)
        return ToolFinished(self.now, node, attempt)


def _handed_over(command: _Open, over: HandOver) -> _Open:
    if isinstance(command, Dispatch | RunTool) and _is_for(command, over.node, over.attempt):
        return replace(command, node=over.heir, attempt=over.heir_attempt)
    return command


def _is_for(command: Command, node: NodeRef, attempt: int) -> bool:
    return isinstance(command, Dispatch | RunTool) and (command.node, command.attempt) == (node, attempt)
