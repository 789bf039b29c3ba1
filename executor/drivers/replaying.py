"""A recorded window of traffic run again in virtual time, by the same core, under other bounds or another rule.

No prompt and no answer is there: what they were in tokens is. Engines are modelled; which of their blocks calls share
is taken from the names that the core was told.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from executor.commands import (
    Abort,
    CallMeAt,
    Command,
    Decide,
    Dispatch,
    FinishProgram,
    HandOver,
    PlanBatch,
    Prepare,
    RunTool,
    Settle,
    Status,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.model.engine import EngineModel
from executor.engines.model.profiles import profile_of
from executor.engines.port import EngineSpec, Failure, FailureClass
from executor.events import (
    CallFinished,
    Decided,
    EngineBack,
    Event,
    NodeFailed,
    Prepared,
    Settled,
    ToolFinished,
    WakeUp,
)
from executor.policy.rules import Rule
from executor.prompt_blocks import BLOCK_TOKENS
from executor.recording import RecordedJob, Recording
from planner.cost.profile import Profile
from planner.ir.ids import EngineId, JobId, NodeRef

_NOT_RECORDED = Failure(FailureClass.ROW, "not_recorded", "the window has no record of this")
#: Spreads a block's name over the engine's own, smaller blocks inside it.
_SPREAD = 1_000_003


@dataclass(frozen=True, slots=True)
class ReplayedProgram:
    """A program that succeeded: `seconds` after its job came in. `deadline_s` are seconds from then, too."""

    job: JobId
    row: int
    seconds: float
    deadline_s: float | None = None

    @property
    def missed(self) -> bool:
        return self.deadline_s is not None and self.seconds > self.deadline_s


def replay(
    recording: Recording, fleet: Sequence[EngineSpec], limits: Limits | None = None, rule: str | Rule = "halo"
) -> Sequence[ReplayedProgram]:
    """Run all recorded jobs to their ends. The same arguments give the same run, event for event.

    Programs of which something was not recorded are left out of the result.
    """
    return _Replay(recording, fleet, limits, rule).run()


@dataclass(slots=True, eq=False)
class _Running:
    """A call or a tool, and for which node's attempt: that may change when a program ends."""

    node: NodeRef
    attempt: int
    tools: tuple[str, ...] = ()
    engine: "_Engine | None" = None


@dataclass(slots=True, eq=False)
class _Engine:
    spec: EngineSpec
    profile: Profile
    model: EngineModel[_Running]
    alarm_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Over:
    """A call's answer is back, or a tool is done."""

    running: _Running
    event: CallFinished | ToolFinished | NodeFailed


_Due = Event | EngineId | RecordedJob | _Over


class _Replay:
    def __init__(
        self, recording: Recording, fleet: Sequence[EngineSpec], limits: Limits | None, rule: str | Rule
    ) -> None:
        self._recording = recording
        self._now = 0.0
        self._heap: list[tuple[float, int, _Due]] = []
        self._inbox: deque[Event] = deque()
        self._running: dict[tuple[NodeRef, int], _Running] = {}
        self._touched: dict[EngineId, _Engine] = {}
        self._ended: list[ReplayedProgram] = []
        self._order = count()
        self._engines = {spec.id: _engine(spec) for spec in fleet}
        known = [replace(spec, kv_tokens=self._engines[spec.id].profile.kv_tokens) for spec in fleet]
        self._core = Scheduler(known, limits, rule)
        self._jobs = {job.id: job for job in recording.jobs}

    def run(self) -> Sequence[ReplayedProgram]:
        for job in self._recording.jobs:
            self._at(job.submitted.at, job)
        while self._heap:
            self._now, _, due = heapq.heappop(self._heap)
            self._happen(due)
            while self._inbox:
                for command in self._core.handle(self._inbox.popleft()):
                    self._perform(command)
            if not self._heap or self._heap[0][0] > self._now:
                self._set_alarms()
        return self._ended

    def _at(self, at: float, what: _Due) -> None:
        heapq.heappush(self._heap, (at, next(self._order), what))

    def _happen(self, due: _Due) -> None:
        if isinstance(due, str):
            self._ring(self._engines[due])
        elif isinstance(due, RecordedJob):
            kept = due.ended_s
            left_out = tuple(row for row in range(due.submitted.rows) if row not in kept)
            self._inbox.append(replace(due.submitted, at=self._now, ended=left_out))
        elif isinstance(due, _Over):
            self._take(due)
        else:
            self._inbox.append(due)

    def _perform(self, command: Command) -> None:
        match command:
            case Prepare():
                self._inbox.append(self._prepared(command))
            case Decide():
                self._inbox.append(self._decided(command))
            case Settle(node=node, attempt=attempt):
                self._inbox.append(Settled(self._now, node, attempt))
            case Dispatch():
                self._dispatch(command)
            case RunTool(node=node, attempt=attempt):
                self._run_tool(node, attempt)
            case Abort(node=node, attempt=attempt):
                self._abort(node, attempt)
            case HandOver():
                running = self._running.pop((command.node, command.attempt))
                running.node, running.attempt = command.heir, command.heir_attempt
                self._running[running.node, running.attempt] = running
            case FinishProgram():
                self._finish(command)
            case PlanBatch(job=job):
                recorded = self._jobs[job]
                at = self._now + max(0.0, recorded.planned.at - recorded.submitted.at)
                self._at(at, replace(recorded.planned, at=at))
            case WatchEngine(engine=engine, after_s=after_s):
                self._at(self._now + after_s, EngineBack(self._now + after_s, engine))
            case CallMeAt(at=at):
                self._at(max(at, self._now), WakeUp(max(at, self._now)))

    def _prepared(self, command: Prepare) -> Event:
        found = self._recording.prepared_for(command.node)
        if found is None:
            return NodeFailed(self._now, command.node, command.attempt, _NOT_RECORDED)
        return replace(found, at=self._now, node=command.node, attempt=command.attempt)

    def _decided(self, command: Decide) -> Event:
        choice = self._recording.choice(command.node, command.done)
        if choice is None:
            return NodeFailed(self._now, command.node, command.attempt, _NOT_RECORDED)
        return Decided(self._now, command.node, command.attempt, choice)

    def _dispatch(self, command: Dispatch) -> None:
        node, engine = command.node, self._engines[command.engine]
        answer, prepared = self._recording.answer_to(node), self._recording.prepared_for(node)
        if answer is None or prepared is None:
            self._inbox.append(NodeFailed(self._now, node, command.attempt, _NOT_RECORDED))
            return
        running = self._begin(node, command.attempt, answer.tools)
        running.engine = engine
        prompt_tokens = max(1, answer.usage.prompt_tokens)
        names = _names(prepared, prompt_tokens, engine.profile.block_tokens)
        engine.model.submit(running, prompt_tokens, max(1, answer.usage.output_tokens), self._now, names)
        self._touched[engine.spec.id] = engine

    def _run_tool(self, node: NodeRef, attempt: int) -> None:
        seconds = self._recording.tool_seconds(node)
        at = self._now + (seconds or 0.0)
        running = self._begin(node, attempt)
        failed = seconds is None
        event = NodeFailed(at, node, attempt, _NOT_RECORDED) if failed else ToolFinished(at, node, attempt)
        self._at(at, _Over(running, event))

    def _begin(self, node: NodeRef, attempt: int, tools: tuple[str, ...] = ()) -> _Running:
        running = self._running[node, attempt] = _Running(node, attempt, tools)
        return running

    def _take(self, over: _Over) -> None:
        """Of what was aborted meanwhile, nobody hears."""
        running = over.running
        if self._running.get((running.node, running.attempt)) is not running:
            return
        del self._running[running.node, running.attempt]
        self._inbox.append(replace(over.event, node=running.node, attempt=running.attempt))

    def _ring(self, engine: _Engine) -> None:
        if engine.alarm_at != self._now:
            return
        engine.alarm_at = None
        for finished in engine.model.advance(self._now):
            at = self._now + engine.profile.round_trip_s
            running = finished.id
            event = CallFinished(at, running.node, running.attempt, finished.usage, running.tools)
            self._at(at, _Over(running, event))
        self._touched[engine.spec.id] = engine

    def _set_alarms(self) -> None:
        """Once nothing more happens at this instant, so that all calls of it are in the step that begins now."""
        for engine in self._touched.values():
            at = engine.model.next_at()
            if at is not None and at != engine.alarm_at:
                self._at(at, engine.spec.id)
            engine.alarm_at = at
        self._touched.clear()

    def _abort(self, node: NodeRef, attempt: int) -> None:
        running = self._running.pop((node, attempt), None)
        if running is not None and running.engine is not None and running.engine.model.cancel(running, self._now):
            self._touched[running.engine.spec.id] = running.engine

    def _finish(self, command: FinishProgram) -> None:
        if command.status is not Status.SUCCEEDED:
            return
        submitted = self._jobs[command.job].submitted
        deadline_s = None if submitted.deadline_s is None else submitted.deadline_s - submitted.at
        self._ended.append(ReplayedProgram(command.job, command.row, self._now - submitted.at, deadline_s))


def _engine(spec: EngineSpec) -> _Engine:
    profile = profile_of(spec)
    return _Engine(spec, profile, EngineModel(profile, spec.max_running))


def _names(prepared: Prepared, prompt_tokens: int, block_tokens: int) -> tuple[int, ...]:
    """Names of the engine's blocks of the prompt, as far as the core's larger blocks, which are of estimated tokens,
    reach: equal where the core's block that they end in is equal."""
    prefix = prepared.prefix
    if not prefix:
        return ()
    scale = max(1, prepared.prompt_tokens) / prompt_tokens
    names = []
    for place in range(prompt_tokens // block_tokens):
        within = int(((place + 1) * block_tokens * scale - 1) // BLOCK_TOKENS)
        if within >= len(prefix):
            break
        names.append(prefix[within] * _SPREAD + place)
    return tuple(names)
