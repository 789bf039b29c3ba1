"""What the engines say of themselves, asked at most every few seconds however many people look."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from executor.clock import Clock
from executor.engines.port import Engine, EngineHealth, EngineSpec

FRESH_S = 2.0
PROBE_S = 3.0


@dataclass(frozen=True, slots=True)
class Served:
    """The models that some engine serves to a tenant, None where an engine has not told which it serves; and those that
    only engines serve that are `kept` for other tenants."""

    models: Sequence[str] | None
    kept: Collection[str] = frozenset()


class FleetView:
    def __init__(self, engines: Sequence[Engine], clock: Clock) -> None:
        self._engines, self._clock = engines, clock
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._found: list[tuple[EngineSpec, EngineHealth]] = []

    @property
    def specs(self) -> list[EngineSpec]:
        return [engine.spec for engine in self._engines]

    def open_to(self, tenant: str) -> list[EngineSpec]:
        """The engines that take its calls: everybody's, and those that are kept for it."""
        return [spec for spec in self.specs if spec.serves_tenant(tenant)]

    def served_to(self, tenant: str) -> "Served":
        specs, own = self.specs, self.open_to(tenant)
        models = sorted({model for spec in own for model in spec.served})
        told = bool(specs) and all(spec.models for spec in own)
        return Served(models if told else None, {model for spec in specs for model in spec.served} - set(models))

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
        return engine.spec, EngineHealth(False, engine.spec.served, detail=f"no answer within {PROBE_S:g} s")
