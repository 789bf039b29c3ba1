"""The live driver by clocks that are not exact: what the core asked to be woken for is due when it is woken."""

import asyncio

from live_runs import submit

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.engines.port import EngineSpec, Failure, FailureClass, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.ids import EngineId


class HastyClock(WallClock):
    """Rings before the time, as event loops that count in milliseconds do."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * 0.9)


@halo.llm(model="small", max_tokens=16)
def ask(text: str) -> str:
    return f"Say something about {text}"


@halo.workflow
def one_call(text: str) -> str:
    return ask(text)


def out_of_order(_: GenerateRequest) -> Failure:
    return Failure(FailureClass.ENGINE, "engine_error", "the engine answered 500")


async def test_a_row_on_the_only_engine_ends_although_timers_ring_early() -> None:
    """Nothing else happens that could wake the core in place of the timer."""
    spec = EngineSpec(EngineId("only"), "scripted", ("small",))
    store, engine = MemoryStore(), Scripted(spec, Synthetic(), faults=out_of_order)
    job = await submit(store, one_call.plan, [{"text": "rain"}])
    claim = await store.claim("test", 60.0, job)
    assert claim is not None
    async with (
        asyncio.timeout(60.0),
        LiveDriver([engine], ToolRunner({}), store, MemoryStates(), HastyClock()) as driver,
    ):
        assert await driver.run(claim) is Status.FAILED
    (row,) = [row async for row in store.results(job)]
    assert row.failure is not None
    assert row.failure.code == "engine_error"
