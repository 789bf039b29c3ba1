"""What can happen. Events carry ids, counts and times; prompts and outputs stay in `executor.values`.

Every event names its instant `at`, in seconds of the driver's clock. Each command that asks for work is answered by
exactly one event for the same node and attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from executor.engines.port import Failure, Usage
from executor.engines.rungs import Rung
from executor.slo import SloClass
from kvstore.kv_events import KvEvent
from planner.cost.quantiles import Quantiles
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef, StageId
from planner.ir.plan import Plan
from planner.job import Grouping


@dataclass(frozen=True, slots=True)
class Before:
    """Where a program stood when its process died, as far as that was told: `node` was at work, and `engine` had the KV
    of its first `context_tokens` tokens. Programs with a smaller `sequence` had begun earlier."""

    node: str
    engine: EngineId | None = None
    turns: int = 0
    attained_tokens: int = 0
    sequence: int = 0
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process already did for a program: the nodes whose output is stored, each with the tools it
    asked for (an agent's turns do), and the `unsafe` tools that were started and never ended. `before` is a hint."""

    done: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    interrupted: tuple[str, ...] = ()
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """`rows` programs of one plan. `ended` rows are finished already; `recovered` rows were begun by a dead process.

    Lower `priority` goes first. `lengths` are those of earlier jobs' answers in tokens, by the paths of the plan.
    At the instant `deadline_s` of the driver's clock each program of the job should be done. `tenant` is whose it is.
    """

    at: float
    job: JobId
    plan: Plan
    rows: int
    priority: int = 0
    ended: Sequence[int] = ()
    recovered: Mapping[int, Recovered] = field(default_factory=dict)
    lengths: Mapping[str, Quantiles] = field(default_factory=dict)
    tenant: str = ""
    slo: SloClass = SloClass.STANDARD
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class BatchPlanned:
    """The answer to `PlanBatch`: the plan to run, the order of its rows, and which of their stages are equal work.

    `known` names, of the equal work, what rows that ended in an earlier process did already, and by which node.
    `shares` say which share of a stage's calls each engine should take, for stages of the plan itself that unlike
    engines serve (`executor.placing`).
    """

    at: float
    job: JobId
    plan: Plan
    order: Sequence[int]
    groups: Mapping[StageId, Grouping]
    known: Mapping[ContentKey, NodeRef] = field(default_factory=dict)
    shares: Mapping[StageId, Mapping[EngineId, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A node's inputs are rendered. `key` names its answer where that is fixed: equal keys, equal answers.

    `prefix` names the full blocks of a call's prompt (`executor.prompt_blocks`): equal beginnings, equal names.
    `recalled` says that an earlier job's answer was found and is at hand; `tools` are those that answer asks for.
    """

    at: float
    node: NodeRef
    attempt: int
    key: ContentKey | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix: tuple[int, ...] = ()
    recalled: bool = False
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer to `Decide`: a branch's index, a number of items, or 1 where a loop stops and 0 where it goes on."""

    at: float
    node: NodeRef
    attempt: int
    choice: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to `Settle`: the node's value is known."""

    at: float
    node: NodeRef
    attempt: int


@dataclass(frozen=True, slots=True)
class CallFinished:
    """`tools` names the tools an agent's reply asks for, in order."""

    at: float
    node: NodeRef
    attempt: int
    usage: Usage
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolStarted:
    at: float
    node: NodeRef
    attempt: int


@dataclass(frozen=True, slots=True)
class ToolFinished:
    at: float
    node: NodeRef
    attempt: int


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A call, a tool or an evaluation failed."""

    at: float
    node: NodeRef
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class EngineLost:
    at: float
    engine: EngineId
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EngineBack:
    """The engine answers, and its prefix cache is empty. `kv_tokens` is the room of its KV cache, where it tells."""

    at: float
    engine: EngineId
    kv_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EngineDraining:
    """An operator takes the engine out: what runs there ends there, and nothing new goes there."""

    at: float
    engine: EngineId


@dataclass(frozen=True, slots=True)
class EngineResumed:
    """The engine takes calls again."""

    at: float
    engine: EngineId


@dataclass(frozen=True, slots=True)
class RungFound:
    """How the engine keeps the KV of programs that wait; it may be another server than before."""

    at: float
    engine: EngineId
    rung: Rung


@dataclass(frozen=True, slots=True)
class PlacesShared:
    """Of the calls that the engine takes at once, so many are `for_others` than this core's; of its KV, that part."""

    at: float
    engine: EngineId
    for_others: int
    kv_for_others: float = 0.0


@dataclass(frozen=True, slots=True)
class CacheTold:
    """The engine says what its KV cache took in and gave up, one after the other. Sessions are programs' ids."""

    at: float
    engine: EngineId
    events: tuple[KvEvent, ...]


@dataclass(frozen=True, slots=True)
class CacheUntold:
    """Something the engine said of its KV cache was lost, or it no longer says anything."""

    at: float
    engine: EngineId


@dataclass(frozen=True, slots=True)
class WakeUp:
    """The instant a `CallMeAt` asked for has come."""

    at: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    at: float
    job: JobId


@dataclass(frozen=True, slots=True)
class Retuned:
    """From now on the core works by another setting of its knobs (`executor.core.knobs`); those not named stay."""

    at: float
    setting: Mapping[str, float]


Event = (
    JobSubmitted
    | BatchPlanned
    | Prepared
    | Decided
    | Settled
    | CallFinished
    | ToolStarted
    | ToolFinished
    | NodeFailed
    | EngineLost
    | EngineBack
    | EngineDraining
    | EngineResumed
    | RungFound
    | PlacesShared
    | CacheTold
    | CacheUntold
    | WakeUp
    | Cancelled
    | Retuned
)
