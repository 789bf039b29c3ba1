"""Jobs and the door of one process call the same engines: each is told how many places the other needs."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from executor.engines.port import EngineSpec
from executor.policy.places import Kind, left_to
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A driver that sends calls: how many each engine has of them, which engines its calls wait for that have no place,
    and who is told how many places are not its own."""

    kind: Kind
    inside: Callable[[], Mapping[EngineId, int]]
    wanting: Callable[[], Collection[EngineId]]
    leave_room: Callable[[EngineId, int], None]


class SharedPlaces:
    """For one event loop. A place that is taken is told at once, so that together they take no more than there are;
    what becomes free once the loop comes round."""

    def __init__(self, engines: Sequence[EngineSpec]) -> None:
        self._most = {spec.id: spec.max_running for spec in engines}
        self._sides: list[Side] = []
        self._told: dict[tuple[Kind, EngineId], int] = {}
        self._soon: asyncio.Handle | None = None

    def join(self, side: Side) -> None:
        self._sides.append(side)

    def leave(self, side: Side) -> None:
        self._sides.remove(side)
        self.changed()

    def entered(self, side: Side, engine: EngineId) -> None:
        """One of its calls goes to the engine."""
        for other in self._others(side):
            inside = side.inside()[engine]
            if inside > self._told.get((other.kind, engine), 0):
                self._tell(other, engine, inside)

    def changed(self) -> None:
        """Calls came or went."""
        if self._soon is None and self._sides:
            self._soon = asyncio.get_running_loop().call_soon(self._share)

    def _share(self) -> None:
        self._soon = None
        for side in list(self._sides):
            left = dict.fromkeys(self._most, 0)
            for other in self._others(side):
                inside, wanting = other.inside(), other.wanting()
                for engine, most in self._most.items():
                    left[engine] += left_to(other.kind, inside[engine], most, wants=engine in wanting)
            for engine, for_others in left.items():
                if for_others != self._told.get((side.kind, engine), 0):
                    self._tell(side, engine, for_others)

    def _tell(self, side: Side, engine: EngineId, for_others: int) -> None:
        self._told[side.kind, engine] = for_others
        side.leave_room(engine, for_others)

    def _others(self, side: Side) -> list[Side]:
        return [one for one in self._sides if one is not side]
