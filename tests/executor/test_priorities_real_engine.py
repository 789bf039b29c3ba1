"""Halo's classes inside a real vLLM that was started with `--scheduling-policy priority`."""

import asyncio
from dataclasses import replace

import pytest
from example_plans import generate, output
from live_runs import live_driver

from executor.commands import Status
from executor.engines.port import Completion, EngineHealth, GenerateRequest
from executor.engines.vllm_http import VllmHttp
from executor.slo import SloClass
from executor.store.memory import MemoryStore
from executor.store.port import NewJob
from planner.ir.codec import encode
from planner.ir.expressions import Column
from planner.ir.ids import JobId
from planner.ir.plan import Input, Plan, Sampling
from tests.conftest import RealEngines

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

BATCH_ROWS = 8
ASK = generate("ask", Column("question"), sampling=Sampling(max_tokens=100), model="tiny-llama")
PLAN = Plan("p", (Input("question"),), (ASK,), output("ask"))


class InOrder:
    """An engine that notes which programs it was asked for, and in which order it answered them."""

    def __init__(self, inner: VllmHttp) -> None:
        self._inner, self.spec = inner, inner.spec
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.full = asyncio.Event()

    async def generate(self, request: GenerateRequest) -> Completion:
        self.asked.append(request.program)
        if len(self.asked) == BATCH_ROWS:
            self.full.set()
        completion = await self._inner.generate(replace(request, min_tokens=100))
        self.answered.append(request.program)
        return completion

    async def probe(self) -> EngineHealth:
        return await self._inner.probe()

    async def close(self) -> None:
        await self._inner.close()


async def test_who_is_waited_for_passes_a_batch_that_waits_inside_the_engine(real_engine_factory: RealEngines) -> None:
    """One call runs at a time; Halo has all of the batch inside when the other comes, and takes none of them out."""
    (server,) = real_engine_factory({"extra": ("--scheduling-policy", "priority"), "max_running": 1})
    spec = replace(server.spec, max_running=BATCH_ROWS + 1, options={"priority_scheduling": True})
    engine, store = InOrder(VllmHttp(spec)), MemoryStore()
    rows = [{"question": f"{number}?"} for number in range(BATCH_ROWS)]
    await store.create_job(NewJob(JobId("batch"), "p", encode(PLAN), rows, slo=SloClass.BATCH))
    await store.create_job(NewJob(JobId("chat"), "p", encode(PLAN), [{"question": "who?"}], slo=SloClass.INTERACTIVE))
    async with live_driver([engine], store) as driver:
        batch = await store.claim("test", 600.0, JobId("batch"))
        chat = await store.claim("test", 600.0, JobId("chat"))
        assert batch is not None
        assert chat is not None
        running = asyncio.create_task(driver.run(batch))
        async with asyncio.timeout(300):
            await engine.full.wait()
        assert await driver.run(chat) is Status.SUCCEEDED
        assert await running is Status.SUCCEEDED
    await engine.close()
    real_engine_factory.stop(server)
    assert len(engine.asked) == BATCH_ROWS + 1
    # The call that ran, and one that may have been taken up before the other came in.
    assert engine.answered.index("chat/0") <= 2
