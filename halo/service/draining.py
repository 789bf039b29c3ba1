"""Engines that operators take out: the store knows them, and jobs and the door of this process follow it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog

from executor.clock import Clock
from executor.store.failures import StoreUnavailable
from executor.store.port import Store
from planner.ir.ids import EngineId

#: What an operator told another replica is done here so many seconds later, if the store answers at once.
LOOK_S = 1.0

log = structlog.get_logger(__name__)


class Drains(Protocol):
    """A driver that sends calls to engines. Bodies: `LiveDriver`, `Door`."""

    def drain(self, engine: EngineId) -> None: ...
    def resume(self, engine: EngineId) -> None: ...
    def running(self) -> Mapping[EngineId, int]: ...


class Draining:
    """The store has the truth, for all replicas and for the next start. While it does not answer, what was known stays.

    Engines that it names and that are not of these `engines` are left to whoever has them.
    """

    def __init__(self, store: Store, engines: Collection[EngineId], *drivers: Drains) -> None:
        self._store, self._engines = store, tuple(engines)
        self._drivers: Sequence[Drains] = drivers
        self._drained: set[EngineId] = set()
        #: Held from asking the store until it is done here: what was read before a change must not be done after it.
        self._following = asyncio.Lock()
        self._blind = False

    async def follow(self, clock: Clock) -> None:
        """Look again and again, until cancelled."""
        while True:
            await clock.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what the store says."""
        async with self._following:
            try:
                told = await self._store.drained()
            except StoreUnavailable as error:
                if not self._blind:
                    log.warning("which engines are drained cannot be seen", error=str(error))
                self._blind = True
            else:
                self._blind = False
                self._take_out(told)

    async def drain(self, engine: EngineId, operator: str) -> None:
        """Nothing new goes to the engine; what it has ends there. It may be drained already. `StoreUnavailable`."""
        async with self._following:
            await self._store.drain(engine, operator)
            self._take_out({*self._drained, engine})

    async def resume(self, engine: EngineId) -> None:
        """Raises `StoreUnavailable`."""
        async with self._following:
            await self._store.resume(engine)
            self._take_out(self._drained - {engine})

    @property
    def drained(self) -> Sequence[EngineId]:
        return sorted(self._drained)

    def drains(self, engine: EngineId) -> bool:
        return engine in self._drained

    def inside(self, engine: EngineId) -> int:
        """How many calls of this process the engine has."""
        return sum(driver.running().get(engine, 0) for driver in self._drivers)

    def _take_out(self, told: Collection[EngineId]) -> None:
        """These, and no others."""
        for engine in self._engines:
            if (drained := engine in told) == self.drains(engine):
                continue
            (self._drained.add if drained else self._drained.discard)(engine)
            log.info("engine drains" if drained else "engine takes calls", engine=engine)
            for driver in self._drivers:
                (driver.drain if drained else driver.resume)(engine)
