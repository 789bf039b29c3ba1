"""A recorded window of traffic run again in virtual time, by the same core, under other bounds or another rule.

No prompt and no answer is there: what they were in tokens is. Engines are modelled; which of their blocks calls share
is taken from the names that the core was told.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from executor.commands import (
    Abort,
    CallMeAt,
    Command,
    Decide,
    Dispatch,
    FinishProgram,
    HandOver,
    Hint,
    PlanBatch,
    Prepare,
    RunTool,
    Settle,
    Status,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.drivers.agenda import Agenda
from executor.drivers.underway import Running, Underway
from executor.drivers.virtual_engines import VirtualEngine, VirtualEngines
from executor.engines.port import EngineSpec, Failure, FailureClass
from executor.events import (
    CallFinished,
    Decided,
    EngineBack,
    Event,
    NodeFailed,
    Prepared,
    Retuned,
    Settled,
    ToolFinished,
    WakeUp,
)
from executor.policy.rules import Rule
from executor.policy.urgency import priority_of
from executor.prompt_blocks import BLOCK_TOKENS
from executor.recording import RecordedJob, Recording
from halo_vllm.policy.hints import PROGRAM
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
    recording: Recording,
    fleet: Sequence[EngineSpec],
    limits: Limits | None = None,
    rule: str | Rule = "halo",
    retuned: Retuned | None = None,
) -> Sequence[ReplayedProgram]:
    """Run all recorded jobs to their ends. The same arguments give the same run, event for event.

    The core is `retuned` in the middle of it, where that is given. Programs of which something was not recorded are
    left out of the result.
    """
    return _Replay(recording, fleet, limits, rule).run(retuned)


@dataclass(slots=True, eq=False)
class _Call(Running):
    """Its answer asks for these tools."""

    engine: VirtualEngine["_Call"]
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Over:
    """A call's answer is back, or a tool is done."""

    running: Running
    event: CallFinished | ToolFinished | NodeFailed


_Due = Event | EngineId | RecordedJob | _Over


class _Replay:
    def __init__(
        self, recording: Recording, fleet: Sequence[EngineSpec], limits: Limits | None, rule: str | Rule
    ) -> None:
        self._recording = recording
        self._agenda: Agenda[_Due] = Agenda()
        self._inbox: deque[Event] = deque()
        self._underway = Underway()
        self._ended: list[ReplayedProgram] = []
        self._engines: VirtualEngines[_Call] = VirtualEngines(fleet)
        self._core = Scheduler(self._engines.specs, limits, rule)
        self._jobs = {job.id: job for job in recording.jobs}
        self._estimates = _estimates(recording)

    def run(self, retuned: Retuned | None) -> Sequence[ReplayedProgram]:
        if retuned is not None:
            self._agenda.put(retuned.at, retuned)
        for found in self._engines.rungs():
            self._agenda.put(found.at, found)
        for job in self._recording.jobs:
            self._agenda.put(job.submitted.at, job)
        for due in self._agenda.until_empty(self._instant_ends):
            self._happen(due)
            while self._inbox:
                for command in self._core.handle(self._inbox.popleft()):
                    self._perform(command)
        return self._ended

    @property
    def _now(self) -> float:
        return self._agenda.now

    def _instant_ends(self) -> None:
        self._engines.set_alarms(self._agenda.put)

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
            case Hint():
                self._engines.hint(command, self._now)
            case HandOver():
                self._underway.hand_over(command)
            case FinishProgram():
                self._finish(command)
            case PlanBatch(job=job):
                recorded = self._jobs[job]
                at = self._now + max(0.0, recorded.planned.at - recorded.submitted.at)
                self._agenda.put(at, replace(recorded.planned, at=at))
            case WatchEngine(engine=engine, after_s=after_s):
                self._agenda.put(self._now + after_s, EngineBack(self._now + after_s, engine))
            case CallMeAt(at=at):
                self._agenda.put(max(at, self._now), WakeUp(max(at, self._now)))

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
        running = _Call(node, command.attempt, engine, answer.tools)
        self._underway.begin(running)
        prompt_tokens = max(1, answer.usage.prompt_tokens)
        names = self._names(prepared, prompt_tokens // engine.profile.block_tokens, engine.profile.block_tokens)
        priority, output_tokens = priority_of(command.due_s or 0.0), max(1, answer.usage.output_tokens)
        said = {PROGRAM: node.program}
        engine.model.submit(running, prompt_tokens, output_tokens, self._now, names, priority, said)
        self._engines.touch(engine)

    def _names(self, prepared: Prepared, blocks: int, block_tokens: int) -> tuple[int, ...]:
        """Names of so many of the engine's blocks of the prompt, as far as the core's larger blocks, which are of
        estimated tokens, reach: equal where the core's block that they end in is equal."""
        names, prefix = list[int](), prepared.prefix
        scale = self._estimates.get(prefix[0], 1.0) if prefix else 1.0
        for place in range(blocks):
            within = int(((place + 1) * block_tokens * scale - 1) // BLOCK_TOKENS)
            if within >= len(prefix):
                break
            names.append(prefix[within] * _SPREAD + place)
        return tuple(names)

    def _run_tool(self, node: NodeRef, attempt: int) -> None:
        seconds = self._recording.tool_seconds(node)
        at = self._now + (seconds or 0.0)
        running = Running(node, attempt)
        self._underway.begin(running)
        failed = seconds is None
        event = NodeFailed(at, node, attempt, _NOT_RECORDED) if failed else ToolFinished(at, node, attempt)
        self._agenda.put(at, _Over(running, event))

    def _take(self, over: _Over) -> None:
        """Of what was aborted meanwhile, nobody hears."""
        running = over.running
        if self._underway.end(running):
            self._inbox.append(replace(over.event, node=running.node, attempt=running.attempt))

    def _ring(self, engine: VirtualEngine[_Call]) -> None:
        for finished in self._engines.ring(engine, self._now):
            at = self._now + engine.profile.round_trip_s
            call = finished.id
            event = CallFinished(at, call.node, call.attempt, finished.usage, call.tools)
            self._agenda.put(at, _Over(call, event))

    def _abort(self, node: NodeRef, attempt: int) -> None:
        running = self._underway.abort(node, attempt)
        if isinstance(running, _Call) and running.engine.model.cancel(running, self._now):
            self._engines.touch(running.engine)

    def _finish(self, command: FinishProgram) -> None:
        if command.status is not Status.SUCCEEDED:
            return
        submitted = self._jobs[command.job].submitted
        deadline_s = None if submitted.deadline_s is None else submitted.deadline_s - submitted.at
        self._ended.append(ReplayedProgram(command.job, command.row, self._now - submitted.at, deadline_s))


def _estimates(recording: Recording) -> dict[int, float]:
    """Estimated tokens in a real one, by the first block of prompts: alike for all that may share more than that. With
    an estimate of its own, each would part from the others where the error comes to a token."""
    sums: dict[int, tuple[int, int]] = {}
    for node, answer in recording.answers.items():
        prepared = recording.prepared.get(node)
        if prepared is not None and prepared.prefix:
            guessed, real = sums.get(prepared.prefix[0], (0, 0))
            sums[prepared.prefix[0]] = guessed + prepared.prompt_tokens, real + answer.usage.prompt_tokens
    return {first: max(1, guessed) / max(1, real) for first, (guessed, real) in sums.items()}
