"""Engines that an operator takes out: jobs and the door of this process are told together."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from planner.ir.ids import EngineId


class Drains(Protocol):
    """A driver that sends calls to engines. Bodies: `LiveDriver`, `Door`."""

    def drain(self, engine: EngineId) -> None: ...

    def resume(self, engine: EngineId) -> None: ...

    def running(self) -> Mapping[EngineId, int]: ...


class Draining:
    """Known to this process, and for as long as it lives: other replicas and the next start are told by themselves."""

    def __init__(self, *drivers: Drains) -> None:
        self._drivers: Sequence[Drains] = drivers
        self._drained: dict[EngineId, None] = {}

    def drain(self, engine: EngineId) -> None:
        """Nothing new goes to the engine; what it has ends there. It may be drained already."""
        self._drained[engine] = None
        for driver in self._drivers:
            driver.drain(engine)

    def resume(self, engine: EngineId) -> None:
        self._drained.pop(engine, None)
        for driver in self._drivers:
            driver.resume(engine)

    def drains(self, engine: EngineId) -> bool:
        return engine in self._drained

    def inside(self, engine: EngineId) -> int:
        """How many calls of this process the engine has."""
        return sum(driver.running().get(engine, 0) for driver in self._drivers)
