"""Requests of a trace as running programs: what the core's questions are answered, with nothing rendered.

Instead of prompts there are the lengths of the trace and the names of the blocks that calls share. No call names its
answer, so equal work is done as often as it is asked for, and no result is cached.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.scheduling.program import (
    MAX_TOKENS,
    calls_by_path,
    calls_of_known_plan,
    choice_at,
    expected_lengths,
    known_plan,
    program_plan,
)
from benchmarks.scheduling.requests import Call
from benchmarks.scheduling.reuse import Reuse, block_names
from benchmarks.scheduling.traces import Arriving
from executor.commands import Command, Decide, FinishProgram, PlanBatch, Prepare, Settle, Status
from executor.events import BatchPlanned, Decided, Event, JobSubmitted, Prepared, Settled
from executor.prompt_blocks import BLOCK_TOKENS
from kvstore.prefix_index import BlockName
from planner.cost.quantiles import Quantiles
from planner.ir.ids import JobId, NodeRef, job_of
from planner.ir.plan import Plan

#: Priorities are whole numbers.
_PRIORITIES_A_S = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """How a trace is put to the core. Each request is to be done `deadline_after_s`, times its own patience, after its
    arrival. Where all is `known`, its plan has its revisions, its evaluations and the lengths of all answers in it from
    the beginning. Prompts and answers have one `shrink`-th of their tokens, for engines that are small. `by_deadline`:
    engines are told priorities, the earlier deadline first, and keep to them (vLLM's `--scheduling-policy priority`).
    """

    deadline_after_s: float
    reuse: Reuse = Reuse.NONE
    known: bool = False
    shrink: int = 1
    by_deadline: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that came at `arrived_s`, should have been answered by `deadline_s`, and was at `ended_s`."""

    arrived_s: float
    ended_s: float
    deadline_s: float

    @property
    def took_s(self) -> float:
        return self.ended_s - self.arrived_s

    @property
    def missed(self) -> bool:
        return self.ended_s > self.deadline_s


@dataclass(frozen=True, slots=True)
class Asking:
    """One call: its lengths, and the names of those leading blocks of its prompt that others may have too. The least
    `priority` goes first."""

    prompt_tokens: int
    output_tokens: int
    names: tuple[BlockName, ...]
    priority: int = 0


class Programs:
    """The requests that came so far, each a job of one program."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._programs: dict[JobId, _Program] = {}
        self._ended: dict[JobId, Ended] = {}

    def arrive(self, arriving: Arriving, now: float) -> JobSubmitted:
        number = len(self._programs)
        deadline_s = now + self._asked.deadline_after_s * arriving.patience
        program = self._program(number, arriving, now, deadline_s)
        job = JobId(f"{number}")
        self._programs[job] = program
        return JobSubmitted(now, job, program.plan, 1, lengths=program.lengths, deadline_s=deadline_s)

    def answer(self, command: Command, now: float) -> Event | None:
        """To commands about values and plans; the others are for who acts."""
        match command:
            case Prepare(node=node, attempt=attempt):
                asking = self.asking(node)
                most = asking.output_tokens if self._asked.known else self._shrunk(MAX_TOKENS)
                return Prepared(now, node, attempt, None, asking.prompt_tokens, most, asking.names)
            case Decide(node=node, attempt=attempt, done=done):
                return Decided(now, node, attempt, choice_at(self._of(node).arriving.request, node.path, done))
            case Settle(node=node, attempt=attempt):
                return Settled(now, node, attempt)
            case PlanBatch(job=job):
                return BatchPlanned(now, job, self._programs[job].plan, (0,), {})
        return None

    def asking(self, node: NodeRef) -> Asking:
        program, shrink = self._of(node), self._asked.shrink
        call = program.calls[node.path]
        prompt_tokens = self._shrunk(call.prompt_tokens)
        names = block_names(self._asked.reuse, program.number, call)[::shrink][: prompt_tokens // BLOCK_TOKENS]
        priority = round(program.deadline_s * _PRIORITIES_A_S) if self._asked.by_deadline else 0
        return Asking(prompt_tokens, self._shrunk(call.output_tokens), names, priority)

    def finish(self, command: FinishProgram, now: float) -> None:
        assert command.status is Status.SUCCEEDED, command
        program = self._programs[command.job]
        self._ended[command.job] = Ended(program.arrived_s, now, program.deadline_s)

    def ended(self) -> tuple[Ended, ...]:
        """All of them, in the order of their arrival."""
        assert len(self._ended) == len(self._programs), "the core left requests unanswered"
        return tuple(self._ended[job] for job in self._programs)

    def _of(self, node: NodeRef) -> "_Program":
        return self._programs[job_of(node.program)]

    def _shrunk(self, tokens: int) -> int:
        return max(1, tokens // self._asked.shrink)

    def _program(self, number: int, arriving: Arriving, now: float, deadline_s: float) -> "_Program":
        request, shrink = arriving.request, self._asked.shrink
        if self._asked.known:
            plan, calls = known_plan(request, shrink), calls_of_known_plan(request)
            return _Program(number, arriving, now, deadline_s, plan, {}, calls)
        lengths = {path: length.map(lambda tokens: tokens / shrink) for path, length in expected_lengths().items()}
        plan = program_plan(self._shrunk(MAX_TOKENS))
        return _Program(number, arriving, now, deadline_s, plan, lengths, calls_by_path(request))


@dataclass(frozen=True, slots=True)
class _Program:
    number: int
    arriving: Arriving
    arrived_s: float
    deadline_s: float
    plan: Plan
    lengths: Mapping[str, Quantiles]
    calls: Mapping[str, Call]
