"""What the door wants done."""

from dataclasses import dataclass

from executor.commands import CallMeAt, Hint, WatchEngine
from executor.door.events import CallNumber
from executor.door.turns import TextEnd
from executor.engines.port import Failure
from kvstore.program_state import ProgramState
from planner.ir.ids import EngineId, ProgramId


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call to the engine; answered by `CallAnswered`, `CallFailed` or `CallGone`.

    `sequence` is the place of its program: of two programs the one that began earlier has the smaller one.
    """

    call: CallNumber
    engine: EngineId
    program: ProgramId
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call is not done; the client may ask again after `failure.retry_after_s` where that is given.

    Codes of the door's own: `model_unknown`, `queue_full`, `no_engine`; others are what the engines failed with.
    """

    call: CallNumber
    failure: Failure


@dataclass(frozen=True, slots=True)
class KeepState:
    """What other replicas should know of a program. Its version is for the driver to give."""

    state: ProgramState


@dataclass(frozen=True, slots=True)
class NameTurn:
    """A conversation of that name goes on as this program, whichever replica it comes to. A text is found by its
    `end`."""

    name: str
    program: ProgramId
    end: TextEnd | None = None


DoorCommand = Send | Refuse | KeepState | NameTurn | Hint | CallMeAt | WatchEngine
