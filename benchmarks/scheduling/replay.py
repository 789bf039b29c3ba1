"""The product's own core on a trace, in virtual time: `Scheduler.handle` with modelled engines, and nothing rendered.

It speaks the events and commands of `executor.drivers.simulated`. Instead of prompts there are the lengths of the trace
and the names of the blocks that calls share; no call names its answer, so equal work is done as often as it is asked
for, and no result is cached.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from benchmarks.scheduling.program import (
    MAX_TOKENS,
    calls_by_path,
    calls_of_known_plan,
    choice_at,
    expected_lengths,
    known_plan,
    program_plan,
)
from benchmarks.scheduling.requests import Call, Request
from benchmarks.scheduling.reuse import Reuse, block_names
from benchmarks.scheduling.traces import Arriving
from executor.commands import (
    Abort,
    CallMeAt,
    Command,
    Decide,
    Dispatch,
    FinishProgram,
    PlanBatch,
    Prepare,
    Settle,
    Status,
)
from executor.core.scheduler import Scheduler
from executor.engines.model.engine import EngineModel, Finished
from executor.engines.port import EngineSpec
from executor.events import BatchPlanned, CallFinished, Decided, Event, JobSubmitted, Prepared, Settled, WakeUp
from planner.cost.quantiles import Quantiles
from planner.ir.ids import EngineId, JobId, NodeRef, job_of
from planner.ir.plan import Plan


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that came at `arrived_s` and was answered at `ended_s`."""

    arrived_s: float
    ended_s: float

    @property
    def took_s(self) -> float:
        return self.ended_s - self.arrived_s


@dataclass(slots=True)
class Work:
    """What engines did. `calls_at` counts the calls that ended on each."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    calls_at: dict[EngineId, int] = field(default_factory=dict)

    def add(self, engine: EngineId, finished: Finished[tuple[NodeRef, int]]) -> None:
        usage = finished.usage
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.output_tokens += usage.output_tokens
        self.preemptions += finished.preemptions
        self.calls_at[engine] = self.calls_at.get(engine, 0) + 1


@dataclass(frozen=True, slots=True)
class Replayed:
    """How it went, in the order of arrival."""

    ended: tuple[Ended, ...]
    work: Work
    events: int


@dataclass(frozen=True, slots=True)
class Asked:
    """How a trace is put to the core. Each request is to be done `deadline_after_s` after its arrival. Where all is
    `known`, its plan has its revisions, its evaluations and the lengths of all answers in it from the beginning."""

    deadline_after_s: float
    reuse: Reuse = Reuse.NONE
    known: bool = False


def replay(arriving: Sequence[Arriving], fleet: Sequence[EngineSpec], core: Scheduler, asked: Asked) -> Replayed:
    """Run all requests to their ends. The same arguments and a fresh core give the same run, event for event."""
    return _Replay(arriving, fleet, core, asked).run()


@dataclass(frozen=True, slots=True)
class _Program:
    number: int
    arriving: Arriving
    plan: Plan
    lengths: Mapping[str, Quantiles]
    calls: Mapping[str, Call]

    @property
    def request(self) -> Request:
        return self.arriving.request


_Node = tuple[NodeRef, int]
_Due = EngineId | WakeUp | _Program


class _Replay:
    def __init__(
        self, arriving: Sequence[Arriving], fleet: Sequence[EngineSpec], core: Scheduler, asked: Asked
    ) -> None:
        self._core, self._asked = core, asked
        self._engines = {spec.id: _model(spec) for spec in fleet}
        self._at_engine: dict[_Node, EngineId] = {}
        self._touched: dict[EngineId, None] = {}
        self._programs: dict[JobId, _Program] = {}
        self._ended_s: dict[JobId, float] = {}
        self._now, self._order, self._events = 0.0, count(), 0
        self._heap: list[tuple[float, int, _Due]] = []
        self._inbox: deque[Event] = deque()
        self._work = Work()
        for number, one in enumerate(arriving):
            self._at(one.at, _program(number, one, known=asked.known))

    def run(self) -> Replayed:
        while self._heap:
            self._now, _, due = heapq.heappop(self._heap)
            self._happen(due)
            while self._inbox:
                self._handle(self._inbox.popleft())
            if not self._heap or self._heap[0][0] > self._now:
                self._set_alarms()
        ended = [Ended(program.arriving.at, self._ended_s[job]) for job, program in self._programs.items()]
        return Replayed(tuple(ended), self._work, self._events)

    def _happen(self, due: _Due) -> None:
        match due:
            case _Program():
                self._arrive(due)
            case WakeUp():
                self._inbox.append(due)
            case _:
                self._engine_moves(due)

    def _arrive(self, program: _Program) -> None:
        job = JobId(f"{program.number}")
        self._programs[job] = program
        self._inbox.append(
            JobSubmitted(
                self._now,
                job,
                program.plan,
                rows=1,
                lengths=program.lengths,
                deadline_s=self._now + self._asked.deadline_after_s,
            )
        )

    def _handle(self, event: Event) -> None:
        self._events += 1
        for command in self._core.handle(event):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Prepare():
                self._inbox.append(self._prepared(command))
            case Decide(node=node, attempt=attempt, done=done):
                choice = choice_at(self._program(node).request, node.path, done)
                self._inbox.append(Decided(self._now, node, attempt, choice))
            case Settle(node=node, attempt=attempt):
                self._inbox.append(Settled(self._now, node, attempt))
            case Dispatch():
                self._dispatch(command)
            case Abort(node=node, attempt=attempt):
                self._abort((node, attempt))
            case PlanBatch(job=job):
                self._inbox.append(BatchPlanned(self._now, job, self._programs[job].plan, (0,), {}))
            case FinishProgram(job=job, status=status):
                assert status is Status.SUCCEEDED, command
                self._ended_s[job] = self._now
            case CallMeAt(at=at):
                self._at(max(at, self._now), WakeUp(max(at, self._now)))

    def _prepared(self, command: Prepare) -> Prepared:
        node = command.node
        program = self._program(node)
        call = program.calls[node.path]
        names = block_names(self._asked.reuse, program.number, call)
        most = call.output_tokens if self._asked.known else MAX_TOKENS
        return Prepared(self._now, node, command.attempt, None, call.prompt_tokens, most, names)

    def _dispatch(self, command: Dispatch) -> None:
        program = self._program(command.node)
        call, of = program.calls[command.node.path], (command.node, command.attempt)
        names = block_names(self._asked.reuse, program.number, call)
        self._engines[command.engine].submit(of, call.prompt_tokens, call.output_tokens, self._now, names)
        self._at_engine[of] = command.engine
        self._touched[command.engine] = None

    def _abort(self, of: _Node) -> None:
        if (engine := self._at_engine.pop(of, None)) is not None:
            self._engines[engine].cancel(of, self._now)
            self._touched[engine] = None

    def _engine_moves(self, engine: EngineId) -> None:
        for finished in self._engines[engine].advance(self._now):
            node, attempt = finished.id
            if self._at_engine.pop(finished.id, None) is None:  # it was stopped at this very instant
                continue
            self._work.add(engine, finished)
            self._inbox.append(CallFinished(self._now, node, attempt, finished.usage))
        self._touched[engine] = None

    def _set_alarms(self) -> None:
        """Once nothing more happens at this instant, so that all calls of it are in the step that begins now."""
        for engine in self._touched:
            if (at := self._engines[engine].next_at()) is not None:
                self._at(at, engine)
        self._touched.clear()

    def _at(self, at: float, what: _Due) -> None:
        heapq.heappush(self._heap, (at, next(self._order), what))

    def _program(self, node: NodeRef) -> _Program:
        return self._programs[job_of(node.program)]


def _program(number: int, arriving: Arriving, *, known: bool) -> _Program:
    request = arriving.request
    if known:
        return _Program(number, arriving, known_plan(request), {}, calls_of_known_plan(request))
    return _Program(number, arriving, program_plan(), expected_lengths(), calls_by_path(request))


def _model(spec: EngineSpec) -> EngineModel[_Node]:
    assert spec.profile is not None
    return EngineModel(spec.profile, spec.max_running)
