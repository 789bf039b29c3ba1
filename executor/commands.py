"""What can be asked of a driver. A command holds everything its doing needs, except prompts and outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from executor.engines.port import Failure
from executor.policy.routing import Offer
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef, ProgramId
from planner.ir.plan import Plan, Stage, ToolSpec


class Status(StrEnum):
    """How a program or a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a node's values are found: the frame it stands in, and its stage (None for the frame's own result)."""

    prefix: str
    stage: Stage | None


@dataclass(frozen=True, slots=True)
class PlanBatch:
    """Optimise a job's plan over its rows; answered by `BatchPlanned`."""

    job: JobId


@dataclass(frozen=True, slots=True)
class BeginProgram:
    """Have the program's inputs at hand from now until `FinishProgram`. Not answered.

    `plan` is the plan as it is run: stages that planning merged or dropped are gone from it.
    """

    program: ProgramId
    job: JobId
    row: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class OpenFrame:
    """Remember the columns of a body that starts; `parent` is the node of the stage it belongs to. Not answered."""

    parent: NodeRef
    scope: Scope
    prefix: str
    branch: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Render the inputs of a call or a tool; answered by `Prepared` or `NodeFailed`. `turn` is an agent's."""

    node: NodeRef
    attempt: int
    scope: Scope
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Decide:
    """Work out where a Choose, a Map or a Loop goes; answered by `Decided` or `NodeFailed`. `done` rounds have run."""

    node: NodeRef
    attempt: int
    scope: Scope
    done: int = 0


@dataclass(frozen=True, slots=True)
class Settle:
    """Work out a node's value from its `parts` finished bodies or turns; answered by `Settled` or `NodeFailed`."""

    node: NodeRef
    attempt: int
    scope: Scope
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send a prepared call to an engine; answered by `CallFinished` or `NodeFailed`. `reason` tells why there, `offers`
    what was predicted of each engine that was considered, this one among them. `after` is how the node's last attempt
    failed, if it did. `due_s` orders the calls inside an engine that keeps priorities: an instant, the least goes
    first."""

    node: NodeRef
    attempt: int
    engine: EngineId
    reason: str
    offers: Sequence[Offer] = ()
    after: Failure | None = None
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a prepared tool; answered by `ToolFinished` or `NodeFailed`."""

    node: NodeRef
    attempt: int
    spec: ToolSpec


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop a call or a tool; whatever it still answers is ignored. Not answered."""

    node: NodeRef
    attempt: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """The node's program ended, but `heir` waits for what its call or tool gives: it goes on as the heir's attempt, and
    is answered under that name. Told before the `FinishProgram` of the program that ended. Not answered."""

    node: NodeRef
    attempt: int
    heir: NodeRef
    heir_attempt: int


@dataclass(frozen=True, slots=True)
class SaveNode:
    """A node is done: its output is to be stored. `shared_from` did the work if the node itself did not; where it is
    `recalled`, an earlier job did."""

    node: NodeRef
    attempt: int
    shared_from: NodeRef | None = None
    recalled: bool = False


@dataclass(frozen=True, slots=True)
class KeepShared:
    """Keep the node's output under `key` for others that will need it. Not answered."""

    node: NodeRef
    key: ContentKey


@dataclass(frozen=True, slots=True)
class TakeShared:
    """The node's output is the one kept under `key`. Not answered."""

    node: NodeRef
    key: ContentKey


@dataclass(frozen=True, slots=True)
class UseFallback:
    """A node failed for good, but its stage says what to answer then. Not answered."""

    node: NodeRef
    scope: Scope
    failure: Failure


@dataclass(frozen=True, slots=True)
class ForgetShared:
    """Nobody will ask for the output under `key` any more. Not answered."""

    key: ContentKey


@dataclass(frozen=True, slots=True)
class SaveProgram:
    """A program's live state between calls: what runs, where, since when. A hint for people and replicas.

    `engine` is where it runs, or where its last call ran: there the KV of `context_tokens` tokens is kept, until
    `until` where that is known. A program that began earlier has the smaller `sequence`.
    """

    program: ProgramId
    node: str
    doing: str
    since: float
    engine: EngineId | None
    turns: int
    attained_tokens: int
    sequence: int = 0
    context_tokens: int = 0
    until: float | None = None
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Hint:
    """Tell the engine what its program does between calls; nothing but speed hangs on it. Not answered.

    `event` is one of `halo_vllm.policy.hints.EVENTS`; `tools` are those the program waits for. The engine knows the
    program under the `cache_salt` of its calls; where the core leaves it out, the driver knows it.
    """

    engine: EngineId
    program: ProgramId
    event: str
    tools: tuple[ToolKey, ...] = ()
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class FinishProgram:
    """Store how the program ended and forget its values. Its result is the value of the empty path."""

    program: ProgramId
    job: JobId
    row: int
    status: Status
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class FinishJob:
    job: JobId
    status: Status


@dataclass(frozen=True, slots=True)
class WatchEngine:
    """Wait `after_s`, then probe an engine believed lost until it answers; answered by `EngineBack`.

    `reason` says why it is believed lost.
    """

    engine: EngineId
    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class CallMeAt:
    """Answered by `WakeUp` at that instant or a little later."""

    at: float


Command = (
    PlanBatch
    | BeginProgram
    | OpenFrame
    | Prepare
    | Decide
    | Settle
    | Dispatch
    | RunTool
    | Abort
    | HandOver
    | SaveNode
    | KeepShared
    | TakeShared
    | UseFallback
    | ForgetShared
    | SaveProgram
    | Hint
    | FinishProgram
    | FinishJob
    | WatchEngine
    | CallMeAt
)
