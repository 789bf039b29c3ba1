"""What the watch tells the core of engines, before and after they were away."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress

from executor.clock import ScaledClock
from executor.drivers.watch import EngineWatch
from executor.engines.port import Completion, EngineHealth, EngineSpec, GenerateRequest
from executor.engines.rungs import Rung
from executor.events import EngineBack, EngineLost, Event, RungFound
from planner.ir.ids import EngineId

ENGINE = EngineId("e")
AWAY, HERE = EngineHealth(ready=False, detail="away"), EngineHealth(ready=True)


class Probed:
    """An engine that answers probes as it is told; the last answer stays."""

    def __init__(self, *answers: EngineHealth) -> None:
        self.spec = EngineSpec(ENGINE, "scripted", ("small",))
        self._answers: Iterator[EngineHealth] = iter(answers)
        self._last = answers[-1]

    async def generate(self, request: GenerateRequest) -> Completion:
        raise NotImplementedError

    async def probe(self) -> EngineHealth:
        return next(self._answers, self._last)

    async def close(self) -> None:
        pass


class Watched:
    """A watch over one engine, on a clock that runs fast, and the events it posted."""

    def __init__(self, *answers: EngineHealth) -> None:
        self.events: list[Event] = []
        self._tasks: list[asyncio.Task[None]] = []
        engines, clock = {ENGINE: Probed(*answers)}, ScaledClock(1000.0)
        self.watch = EngineWatch(engines, clock, self.events.append, self._spawn, lambda *_: None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def until(self, count: int) -> list[Event]:
        while len(self.events) < count:
            await asyncio.sleep(0.001)
        return self.events

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_an_engine_that_tells_its_room_is_told_of_at_the_start() -> None:
    watched = Watched(EngineHealth(ready=True, kv_tokens=4096))
    await watched.watch.start()
    (event,) = watched.events
    assert isinstance(event, EngineBack)
    assert event.kv_tokens == 4096
    await watched.stop()


async def test_of_an_engine_that_tells_nothing_nothing_is_told() -> None:
    watched = Watched(HERE)
    await watched.watch.start()
    assert watched.events == []
    await watched.stop()


async def test_an_engine_that_comes_back_tells_its_room() -> None:
    watched = Watched(AWAY, AWAY, EngineHealth(ready=True, kv_tokens=8192))
    await watched.watch.start()
    assert isinstance(watched.events[0], EngineLost)
    watched.watch.bring_back(ENGINE, 0.5)
    back = (await watched.until(2))[1]
    assert isinstance(back, EngineBack)
    assert back.kv_tokens == 8192
    await watched.stop()


async def test_how_the_engine_keeps_kv_is_told_once_and_again_when_another_server_stands_there() -> None:
    plugged, plain = EngineHealth(ready=True, rung=Rung.PLUGIN), EngineHealth(ready=True, rung=Rung.PREFIX_CACHE)
    watched = Watched(plugged, plugged, AWAY, plain)
    await watched.watch.start()
    events = await watched.until(2)
    assert [event.rung for event in events if isinstance(event, RungFound)] == [Rung.PLUGIN, Rung.PREFIX_CACHE]
    await watched.stop()
