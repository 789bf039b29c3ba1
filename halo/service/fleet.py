"""What the engines say of themselves, asked at most every few seconds however many people look."""

import asyncio
from collections.abc import Sequence

from executor.clock import Clock
from executor.engines.port import Engine, EngineHealth, EngineSpec

FRESH_S = 2.0
PROBE_S = 3.0


class FleetView:
    def __init__(self, engines: Sequence[Engine], clock: Clock) -> None:
        self._engines, self._clock = engines, clock
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._found: list[tuple[EngineSpec, EngineHealth]] = []

    @property
    def specs(self) -> list[EngineSpec]:
        return [engine.spec for engine in self._engines]

    @property
    def models(self) -> list[str]:
        """Every model that some engine serves; empty when an engine has not told which it serves."""
        served = [engine.spec.models for engine in self._engines]
        return sorted({model for models in served for model in models}) if all(served) else []

    async def look(self) -> Sequence[tuple[EngineSpec, EngineHealth]]:
        """Every engine and its health, at most `FRESH_S` old."""
        async with self._asking:
            if self._clock.now() - self._asked_at >= FRESH_S:
                self._found = list(await asyncio.gather(*map(_ask, self._engines)))
                self._asked_at = self._clock.now()
        return self._found


async def _ask(engine: Engine) -> tuple[EngineSpec, EngineHealth]:
    try:
        async with asyncio.timeout(PROBE_S):
            return engine.spec, await engine.probe()
    except TimeoutError:
        return engine.spec, EngineHealth(False, engine.spec.models, detail=f"no answer within {PROBE_S:g} s")
