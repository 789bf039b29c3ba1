"""What the live driver tells engines of agents between their calls, and whose cache their calls share."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from example_plans import RUN_SQL, output, user
from live_runs import scripted_fleet, submit

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.engines.answers import Answer, FromFunction
from executor.engines.names import salted
from executor.engines.port import GenerateRequest
from executor.engines.upstream import Reply, Upstream, UpstreamRequest
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, StageId
from planner.ir.plan import Agent, Input, Plan
from planner.ir.values import Json

STAGE = Agent(StageId("solve"), "small", user(Column("q")), (RUN_SQL,))
PLAN = Plan("look it up", (Input("q"),), (STAGE,), output("solve", "text"))


class Listening:
    """An engine's ear."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Json]] = []

    def ask(self, request: UpstreamRequest) -> AbstractAsyncContextManager[Reply]:
        raise NotImplementedError

    async def hint(self, told: Mapping[str, Json]) -> bool:
        self.told.append(told)
        return True

    async def close(self) -> None:
        pass


@halo.tool(effect="idempotent")
async def run_sql() -> str:
    """Runs a SELECT."""
    await asyncio.sleep(0.05)
    return "found"


class Run:
    """One agent that asks for one tool, on one engine."""

    def __init__(self, *, salts: bool) -> None:
        self.ear, self.salts = Listening(), salts
        self.requests: list[GenerateRequest] = []

    def _answer(self, request: GenerateRequest) -> Answer:
        self.requests.append(request)
        asks = not any(message["role"] == "tool" for message in request.messages)
        return Answer("", (ToolCall("1", RUN_SQL.name, "{}"),)) if asks else Answer("done")

    @asynccontextmanager
    async def over(self) -> AsyncIterator[LiveDriver]:
        """The driver, after the run."""
        store, engines = MemoryStore(), scripted_fleet(FromFunction(self._answer))[:1]
        job, tools = await submit(store, PLAN, [{"q": "why?"}]), ToolRunner({RUN_SQL.name: run_sql})
        ears: dict[EngineId, Upstream] = {engines[0].spec.id: self.ear}
        driver = LiveDriver(engines, tools, store, MemoryStates(), WallClock(), upstreams=ears, salted=self.salts)
        async with driver:
            claim = await store.claim("test", 60.0, job)
            assert claim is not None
            assert await driver.run(claim) is Status.SUCCEEDED
            yield driver
        await tools.close()


@pytest.mark.parametrize("salts", [False, True])
async def test_the_engine_hears_which_tool_runs_and_that_the_program_is_done(salts: bool) -> None:
    run = Run(salts=salts)
    async with run.over() as driver:
        async with asyncio.timeout(60):
            while not run.ear.told or run.ear.told[-1]["event"] != "last_step":
                await asyncio.sleep(0.01)
        (counts,) = driver.hints().values()
        assert counts.taken == len(run.ear.told)
    salt = {"cache_salt": salted("default")} if salts else {}
    called = {"program": "job/0", "event": "tool_called", "halo_tool": ["run_sql"], "halo_tool_class": [""], **salt}
    assert run.ear.told[0] == called
    assert run.ear.told[-1] == {"program": "job/0", "event": "last_step", **salt}
    assert {request.cache_salt for request in run.requests} == {salted("default") if salts else None}
