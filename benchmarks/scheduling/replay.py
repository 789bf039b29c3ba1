"""The product's own core on a trace, in virtual time: `Scheduler.handle` with modelled engines.

It speaks the events and commands of `executor.drivers.simulated`, and renders nothing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.scheduling.programs import Asked, Ended, Programs
from benchmarks.scheduling.traces import Arriving
from executor.commands import Abort, CallMeAt, Command, Dispatch, FinishProgram
from executor.core.scheduler import Scheduler
from executor.drivers.agenda import Agenda
from executor.engines.model.batch import Batch
from executor.engines.model.engine import EngineModel
from executor.engines.model.line import ByKey, by_priority
from executor.engines.port import EngineSpec, Usage
from executor.events import CallFinished, Event, WakeUp
from planner.ir.ids import EngineId, NodeRef


@dataclass(slots=True)
class Work:
    """What engines did. `calls_at` counts the calls that ended on each."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    calls_at: dict[EngineId, int] = field(default_factory=dict)

    def add(self, engine: EngineId, usage: Usage, preemptions: int = 0) -> None:
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.output_tokens += usage.output_tokens
        self.preemptions += preemptions
        self.calls_at[engine] = self.calls_at.get(engine, 0) + 1


@dataclass(frozen=True, slots=True)
class Replayed:
    """How it went, in the order of arrival."""

    ended: tuple[Ended, ...]
    work: Work
    events: int


def replay(arriving: Sequence[Arriving], fleet: Sequence[EngineSpec], core: Scheduler, asked: Asked) -> Replayed:
    """Run all requests to their ends. The same arguments and a fresh core give the same run, event for event."""
    return _Replay(arriving, fleet, core, asked).run()


_Node = tuple[NodeRef, int]
_Due = EngineId | WakeUp | Arriving


class _Replay:
    def __init__(
        self, arriving: Sequence[Arriving], fleet: Sequence[EngineSpec], core: Scheduler, asked: Asked
    ) -> None:
        self._core, self._programs = core, Programs(asked)
        self._engines = {spec.id: _model(spec, by_deadline=asked.by_deadline) for spec in fleet}
        self._at_engine: dict[_Node, EngineId] = {}
        self._touched: dict[EngineId, None] = {}
        self._events = 0
        self._agenda: Agenda[_Due] = Agenda()
        self._inbox: deque[Event] = deque()
        self._work = Work()
        for one in arriving:
            self._agenda.put(one.at, one)

    def run(self) -> Replayed:
        for due in self._agenda.until_empty(self._set_alarms):
            self._happen(due)
            while self._inbox:
                self._handle(self._inbox.popleft())
        return Replayed(self._programs.ended(), self._work, self._events)

    def _happen(self, due: _Due) -> None:
        match due:
            case Arriving():
                self._inbox.append(self._programs.arrive(due, self._now))
            case WakeUp():
                self._inbox.append(due)
            case _:
                self._engine_moves(due)

    def _handle(self, event: Event) -> None:
        self._events += 1
        for command in self._core.handle(event):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Dispatch():
                self._dispatch(command)
            case Abort(node=node, attempt=attempt):
                self._abort((node, attempt))
            case FinishProgram():
                self._programs.finish(command, self._now)
            case CallMeAt(at=at):
                self._agenda.put(max(at, self._now), WakeUp(max(at, self._now)))
            case _ if answer := self._programs.answer(command, self._now):
                self._inbox.append(answer)

    def _dispatch(self, command: Dispatch) -> None:
        asking, of = self._programs.asking(command.node), (command.node, command.attempt)
        engine = self._engines[command.engine]
        engine.submit(of, asking.prompt_tokens, asking.output_tokens, self._now, asking.names, asking.priority)
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
            self._work.add(engine, finished.usage, finished.preemptions)
            self._inbox.append(CallFinished(self._now, node, attempt, finished.usage))
        self._touched[engine] = None

    def _set_alarms(self) -> None:
        """Once nothing more happens at this instant, so that all calls of it are in the step that begins now."""
        for engine in self._touched:
            if (at := self._engines[engine].next_at()) is not None:
                self._agenda.put(at, engine)
        self._touched.clear()

    @property
    def _now(self) -> float:
        return self._agenda.now


def _model(spec: EngineSpec, *, by_deadline: bool) -> EngineModel[_Node]:
    assert spec.profile is not None
    batch: Batch[_Node] = Batch(spec.profile, spec.max_running, ByKey(by_priority) if by_deadline else None)
    return EngineModel(spec.profile, spec.max_running, batch=batch)
