"""What a rule sees of a ready call and of the engines that it may go to."""

from collections.abc import Sequence
from dataclasses import dataclass

from executor.policy.ordering import QueueKey
from executor.policy.routing import Offer
from executor.slo import SloClass
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True)
class Asking:
    """A call that is ready since `ready_s`, of a program that came at `arrived_s`. `home` is where the program's last
    call ran.

    `path_s` is about what the program's longest path takes, `left_s` what is still to come of it, `own_s` the part of
    this call in that.
    """

    order: QueueKey
    slo: SloClass
    arrived_s: float
    ready_s: float
    deadline_s: float | None = None
    home: EngineId | None = None
    path_s: float = 0.0
    left_s: float = 0.0
    own_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seat:
    """One engine, as a place for one call.

    `stage_s` is what a call of this stage takes there on average with nothing beside it. Waiting for the engine are
    `waiting` calls, of `waiting_s` seconds of its time; it has been given `given` calls since the beginning, whose
    `stage_s` sum to `given_s`.
    """

    offer: Offer
    stage_s: float
    waiting: int = 0
    waiting_s: float = 0.0
    given: int = 0
    given_s: float = 0.0

    @property
    def engine(self) -> EngineId:
        return self.offer.view.spec.id

    @property
    def calls(self) -> int:
        """Those inside, and those that wait for it."""
        return self.offer.view.running + self.waiting

    @property
    def done_s(self) -> float:
        """When the call would be done: all that is there before it, and what of it is not warm there."""
        return self.offer.done_s + self.waiting_s * self.offer.view.slowness


Seats = Sequence[Seat]
