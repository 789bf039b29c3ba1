"""Jobs and the door of one process call the same engines: each is told how many places the other needs there, and what
part of the KV."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor.core.working_sets import FILL, WorkingSets
from executor.engines.port import EngineSpec
from executor.policy.places import Kind, kv_left_to_others, left_to
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A driver that sends calls: how many each engine has of them, which engines its calls wait for that have no place,
    which conversations have room in the KV, and who is told what is not its own."""

    kind: Kind
    inside: Callable[[], Mapping[EngineId, int]]
    wanting: Callable[[], Collection[EngineId]]
    sets: WorkingSets[Any]
    leave_room: Callable[[EngineId, "Left"], None]


@dataclass(frozen=True, slots=True)
class Left:
    """What is for others: so many places, and that part of the KV."""

    places: int = 0
    kv: float = 0.0


class SharedPlaces:
    """For one event loop. What is taken is told at once, so that together they take no more than there is; what becomes
    free once the loop comes round."""

    def __init__(self, engines: Sequence[EngineSpec]) -> None:
        self._most = {spec.id: spec.max_running for spec in engines}
        self._sides: list[Side] = []
        self._told: dict[tuple[Kind, EngineId], Left] = {}
        self._soon: asyncio.Handle | None = None

    def join(self, side: Side) -> None:
        self._sides.append(side)

    def leave(self, side: Side) -> None:
        self._sides.remove(side)
        self._share_soon()

    def entered(self, side: Side, engine: EngineId) -> None:
        """One of its calls goes to the engine, or one of its programs has room there now."""
        for other in self._others(side):
            told, taken = self._told_to(other, engine), self._taken(side, engine)
            if taken.places > told.places or taken.kv > told.kv:
                self._tell(other, engine, Left(max(taken.places, told.places), max(taken.kv, told.kv)))

    def changed(self, side: Side) -> None:
        """Its calls came or went."""
        for engine in side.sets.promised_more():
            self.entered(side, engine)
        self._share_soon()

    def _share_soon(self) -> None:
        if self._soon is None and self._sides:
            self._soon = asyncio.get_running_loop().call_soon(self._share)

    def _share(self) -> None:
        self._soon = None
        for side in list(self._sides):
            for engine, left in self._left_by(side).items():
                if left != self._told_to(side, engine):
                    self._tell(side, engine, left)

    def _left_by(self, side: Side) -> dict[EngineId, Left]:
        left = dict.fromkeys(self._most, Left())
        for other in self._others(side):
            inside, wanting, wanted = other.inside(), other.wanting(), other.sets.wanted()
            for engine, most in self._most.items():
                left[engine] = Left(
                    left_to(other.kind, inside[engine], most, wants=engine in wanting),
                    kv_left_to_others(other.sets.promised(engine), FILL, wants=engine in wanted),
                )
        return left

    def _taken(self, side: Side, engine: EngineId) -> Left:
        return Left(side.inside()[engine], kv_left_to_others(side.sets.promised(engine), FILL, wants=False))

    def _told_to(self, side: Side, engine: EngineId) -> Left:
        return self._told.get((side.kind, engine), Left())

    def _tell(self, side: Side, engine: EngineId, left: Left) -> None:
        self._told[side.kind, engine] = left
        side.leave_room(engine, left)

    def _others(self, side: Side) -> list[Side]:
        """The other one, if it is there."""
        return [one for one in self._sides if one is not side]
