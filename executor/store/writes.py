"""What is written of a job while it runs."""

from dataclasses import dataclass

from executor.commands import Status
from executor.engines.port import Failure, Usage
from planner.ir.ids import EngineId, JobId

#: What `Store.usage` tells of: work made, and work saved because somebody else's was the same.
MADE = ("calls", "tools", "prompt_tokens", "output_tokens", "cached_tokens")
SAVED = ("saved_calls", "saved_tools", "saved_prompt_tokens", "saved_output_tokens")

#: Of the work saved, that which an earlier job did: its results came from the result cache.
RECALLED = ("recalled_calls", "recalled_tools")

#: Decisions are numbered within a claim of a job; this many fit before the next claim's.
DECISIONS_A_CLAIM = 2**32


@dataclass(frozen=True, slots=True)
class Work:
    """What it takes to do a node: calls, runs of tools, and the tokens of the calls."""

    calls: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def of_call(cls, usage: Usage) -> "Work":
        return cls(1, 0, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in MADE))


NO_WORK = Work()

#: Stands in `NodeOutput.shared_from` for the result cache: an earlier job did the work, and may be gone by now.
RESULT_CACHE = (JobId(""), 0, "")


@dataclass(frozen=True, slots=True)
class Times:
    """A call or a run of a tool: when its inputs were known, when the attempt that succeeded began, when it ended.

    In seconds since 1970, by the clock of the process that ran it.
    """

    ready_at: float
    begun_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class NodeOutput:
    """What a finished node gave: its JSON value, or for an agent's turn the reply. `tools` are those the turn asks for.

    `shared_from` is the (row, path) of the same or another job's node that did the work; `output` is then None and is
    read from there, and `work` is what was saved. From `RESULT_CACHE` the output is a copy. Otherwise `work` is what
    the node itself took, without those inside, and `times` when, where it is a call or a tool.
    """

    row: int
    path: str
    attempt: int
    output: str | None
    tools: tuple[str, ...] = ()
    shared_from: tuple[JobId, int, str] | None = None
    work: Work = NO_WORK
    engine: EngineId | None = None
    times: Times | None = None


@dataclass(frozen=True, slots=True)
class ToolBegun:
    """An `unsafe` tool is about to run; committed before it does."""

    row: int
    path: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """`result` is JSON text when the program succeeded; else `failure` says why, if anything does."""

    row: int
    status: Status
    result: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """An attempt of a node went to an engine at the instant `at`, in seconds since 1970; `detail` says why, as text
    (`executor.decisions`). `number` counts from 1 what is kept of the job since it was claimed."""

    number: int
    row: int
    path: str
    attempt: int
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class JobBelieved:
    """What was believed of the job before it ran, as text (`executor.beliefs`). The first that is written stands."""

    beliefs: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over. Programs that have not ended get its status when it was cancelled. `learnt` is what is known of
    engines now, as text (`executor.beliefs`)."""

    status: Status
    learnt: str | None = None


Write = NodeOutput | ToolBegun | ProgramEnded | DecisionMade | JobBelieved | JobEnded
