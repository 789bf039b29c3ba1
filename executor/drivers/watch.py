"""Watches engines: tells the core when one stops answering and when it answers again."""

from collections.abc import Callable, Coroutine, Mapping

import structlog

from executor.clock import Clock
from executor.engines.port import Engine, EngineHealth
from executor.engines.rungs import Rung
from executor.events import EngineBack, EngineLost, Event, RungFound
from planner.ir.ids import EngineId

PROBE_EVERY_S = 5.0
STRIKES = 3
LONGEST_WAIT_S = 15.0

log = structlog.get_logger(__name__)


class EngineWatch:
    """An engine is lost when it misses `STRIKES` probes in a row; the core may think so earlier, from failed calls.

    `note` is told what each probe found, before the core is.
    """

    def __init__(
        self,
        engines: Mapping[EngineId, Engine],
        clock: Clock,
        post: Callable[[Event], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
        note: Callable[[EngineId, EngineHealth], None],
    ) -> None:
        self._engines, self._clock, self._post, self._spawn, self._note = engines, clock, post, spawn, note
        self._being_brought_back: set[EngineId] = set()
        self._rungs = dict.fromkeys(engines, Rung.UNKNOWN)

    async def start(self) -> None:
        """Probe each engine once, so that the core begins with the truth, then go on watching."""
        for engine in self._engines.values():
            health, now = await self._probe(engine), self._clock.now()
            if not health.ready:
                self._post(EngineLost(now, engine.spec.id, health.detail))
            elif health.kv_tokens:
                self._post(EngineBack(now, engine.spec.id, health.kv_tokens))
            self._spawn(self._watch(engine))

    def bring_back(self, engine: EngineId, after_s: float) -> None:
        if engine not in self._being_brought_back:
            self._being_brought_back.add(engine)
            self._spawn(self._bring_back(self._engines[engine], after_s))

    async def _watch(self, engine: Engine) -> None:
        missed = 0
        while True:
            await self._clock.sleep(PROBE_EVERY_S)
            if engine.spec.id in self._being_brought_back:
                missed = 0
                continue
            health = await self._probe(engine)
            missed = 0 if health.ready else missed + 1
            if missed == STRIKES:
                log.warning("engine lost", engine=engine.spec.id, detail=health.detail)
                self._post(EngineLost(self._clock.now(), engine.spec.id, health.detail))

    async def _bring_back(self, engine: Engine, after_s: float) -> None:
        while True:
            await self._clock.sleep(after_s)
            health = await self._probe(engine)
            if health.ready:
                break
            after_s = min(LONGEST_WAIT_S, after_s * 2)
        log.info("engine back", engine=engine.spec.id)
        self._being_brought_back.discard(engine.spec.id)
        self._post(EngineBack(self._clock.now(), engine.spec.id, health.kv_tokens))

    async def _probe(self, engine: Engine) -> EngineHealth:
        health = await engine.probe()
        self._note(engine.spec.id, health)
        if health.ready and health.rung is not self._rungs[engine.spec.id]:
            self._rungs[engine.spec.id] = health.rung
            self._post(RungFound(self._clock.now(), engine.spec.id, health.rung))
        return health
