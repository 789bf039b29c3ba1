"""What the core knows of a program that runs: its frames, and its live nodes."""

from dataclasses import dataclass, field
from enum import Enum

from executor.commands import Scope
from executor.core.life import STEPS, Life
from executor.core.stage_shares import StageShares
from executor.core.template import Template
from executor.engines.port import Failure
from executor.events import Recovered
from executor.policy.fairness import Account
from executor.policy.ordering import QueueKey
from executor.policy.retry import Tries
from executor.slo import SloClass
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef, ProgramId, StageId
from planner.ir.plan import Agent, Generate, Plan, Stage, ToolSpec

_NO_TRIES = Tries()


class Role(Enum):
    """What a node does. An agent's turns are CALLs and its tools TOOLs of their own."""

    CALL = "call"
    TOOL = "tool"
    CONTAINER = "container"  # Choose, Map, Loop
    AGENT = "agent"
    GATHER = "gather"  # Join, and the program's result


@dataclass(slots=True, eq=False)
class Program:
    """One running program. `live` holds every node that began and has not ended, by path.

    Its job was submitted at the instant `arrived_s`; at `deadline_s`, where it has one, it should be done.
    """

    id: ProgramId
    job: JobId
    row: int
    plan: Plan
    order: QueueKey
    recovered: Recovered
    tenant: str = ""
    slo: SloClass = SloClass.STANDARD
    arrived_s: float = 0.0
    deadline_s: float | None = None
    live: "dict[str, Work]" = field(default_factory=dict)
    path_s: float | None = None  # the whole of its longest path, as believed when its first call was ready
    turns: int = 0
    attained_tokens: int = 0
    engine_s: float = 0.0  # that its calls took of engines, and that its tenant was charged for when it began
    charged_s: float = 0.0
    began_s: float = 0.0
    sequence: int = 0
    engine: EngineId | None = None  # of its last call, with the tokens whose KV is there, and until when it is kept
    context_tokens: int = 0
    kept_until: float | None = None
    kv_at: EngineId | None = None  # of the last turn of its agents
    ended: bool = False
    account: Account = field(init=False)

    def __post_init__(self) -> None:
        self.account = Account(self.tenant, self.slo)


@dataclass(slots=True, eq=False)
class Frame:
    """One activation of a plan: `needs[i]` counts what stage `i` still waits for, `left` the stages not done."""

    template: Template
    prefix: str
    owner: "Work | None"
    needs: list[int]
    left: int


@dataclass(slots=True, eq=False)
class Work:
    """One live node. `attempt` grows with each try, so that a late answer to an earlier one is known as such."""

    ref: NodeRef
    program: Program
    frame: Frame
    scope: Scope
    role: Role
    index: int = -1  # of its stage in the frame; -1 for a result, an agent's turns and their tools
    life: Life | None = None
    attempt: int = 0
    tries: Tries = _NO_TRIES
    failed: Failure | None = None  # how its last attempt ended, where it is tried again
    # sharing
    keys: list[ContentKey] = field(default_factory=list)
    waits_for: ContentKey | None = None
    alone: bool = False  # shares nothing any more: the shared attempt failed
    # calls and tools
    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix: tuple[int, ...] = ()
    own_kv_tokens: float = 0.0  # beside the blocks of `prefix`, while it is in an engine
    engine: EngineId | None = None
    pool: str = ""  # of the engines that may take it, once it is ready
    avoid: tuple[EngineId, ...] = ()
    load_s: float = 0.0
    sent_at: float = 0.0
    program_ends_s: float = 0.0  # along this call's path, as believed when a rule sent it
    beside: int = 0  # calls that the engine had when it was sent, itself included
    shares: StageShares | None = None  # of its stage, where the plan says how engines share it
    sent_back: int = 0  # how often it left an engine for another call, or since the engine was slow
    asked: bool = False  # it was counted as a call that its stage asks for
    queued: int = 0  # how often it came out of the line without being sent
    tool: ToolSpec | None = None
    # containers and agents
    agent: "Work | None" = None
    turn: int = 0
    parts: int = 0
    open_parts: int = 0
    kv_at: EngineId | None = None  # an agent's: of its last turn

    def become(self, life: Life) -> None:
        assert life in STEPS[self.life], f"{self.ref}: {self.life} -> {life}"
        self.life = life

    def replace(self, other: "Work") -> None:
        """Become what `other` is in its program, and go on with what runs."""
        self.ref, self.program, self.frame, self.scope = other.ref, other.program, other.frame, other.scope
        self.index, self.agent, self.turn = other.index, other.agent, other.turn
        self.tool = other.tool or self.tool
        self.attempt = other.attempt + 1
        other.program.live[other.ref.path] = self

    @property
    def suspect(self) -> bool:
        """It was in flight on two engines that died, so it runs alone from now on."""
        return self.tries.deaths >= 2

    @property
    def conversation(self) -> str | None:
        """The name of the agent's conversation: of the agent, and of its turns."""
        if self.role is Role.AGENT:
            return str(self.ref)
        return str(self.agent.ref) if self.agent is not None and self.role is Role.CALL else None

    @property
    def top_stage(self) -> StageId | None:
        """The stage of the program's plan that the call or turn is of; None inside bodies."""
        node = self.agent or self
        return node.frame.template.stages[node.index].id if node.frame.owner is None and node.index >= 0 else None

    @property
    def model(self) -> str:
        """Of a call."""
        assert isinstance(self.stage, Generate | Agent)
        return self.stage.model

    @property
    def stage(self) -> Stage:
        assert self.scope.stage is not None, f"{self.ref} is a result, not a stage"
        return self.scope.stage


def open_frame(template: Template, prefix: str, owner: Work | None) -> Frame:
    return Frame(template, prefix, owner, list(template.needs), len(template.stages))
