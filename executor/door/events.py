"""What happens at the door. `at` is in seconds since the epoch, so that replicas agree on who came first."""

from dataclasses import dataclass

from executor.door.turns import Said
from executor.engines.port import Failure, Usage
from executor.events import (
    CacheTold,
    CacheUntold,
    EngineBack,
    EngineDraining,
    EngineLost,
    EngineResumed,
    PlacesShared,
    RungFound,
    WakeUp,
)
from halo_vllm.policy.tools import ToolKey
from kvstore.prefix_index import BlockName
from kvstore.program_state import ProgramState
from planner.ir.ids import ProgramId

#: Counts the calls of one process.
CallNumber = int


@dataclass(frozen=True, slots=True)
class CallArrived:
    """A call stands at the door.

    `named` is the program the client says it is of; `fresh` a name nobody has, for a program that is new. `prefix`
    names the full blocks of its prompt (`executor.prompt_blocks`), `answer_tokens` is the most it may be answered.
    `known` is what the program's state says, which another replica may have saved. `cache_salt` is what engines part
    its prefix cache from others' by. Who `offers_tools` is an agent most likely.
    """

    at: float
    call: CallNumber
    tenant: str
    model: str
    fresh: ProgramId
    named: ProgramId | None = None
    said: Said | None = None
    prefix: tuple[BlockName, ...] = ()
    prompt_tokens: int = 0
    answer_tokens: int = 0
    known: ProgramState | None = None
    cache_salt: str | None = None
    offers_tools: bool = False


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """`said` is the prompt with its answer, `tools` are those that the answer asks for."""

    at: float
    call: CallNumber
    usage: Usage
    said: Said | None = None
    tools: tuple[ToolKey, ...] = ()


@dataclass(frozen=True, slots=True)
class CallFailed:
    """`begun` says that the client has a part of the answer already, so it cannot be asked for again."""

    at: float
    call: CallNumber
    failure: Failure
    begun: bool = False


@dataclass(frozen=True, slots=True)
class CallGone:
    """The client went away, or its time is over."""

    at: float
    call: CallNumber


DoorEvent = (
    CallArrived
    | CallAnswered
    | CallFailed
    | CallGone
    | EngineLost
    | EngineBack
    | EngineDraining
    | EngineResumed
    | RungFound
    | PlacesShared
    | CacheTold
    | CacheUntold
    | WakeUp
)
