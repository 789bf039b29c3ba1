"""Running a plan through the live driver in a test: scripted engines, a memory store unless told otherwise."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from executor.clock import WallClock
from executor.commands import Status
from executor.core.limits import Limits
from executor.drivers.live import LiveDriver
from executor.engines.answers import Answers
from executor.engines.port import Engine, EngineSpec
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.journal import Journal
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.told import ResultRow
from executor.tools import ToolBody, ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.codec import encode
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Plan
from planner.ir.values import Json

MODELS = ("small", "large")


def scripted_fleet(answers: Answers | None = None, max_running: int = 8) -> list[Engine]:
    specs = [
        EngineSpec(EngineId(name), "scripted", MODELS, gpu=gpu, max_running=max_running)
        for name, gpu in (("a100", "A100"), ("l40s", "L40S"))
    ]
    return [Scripted(spec, answers or Synthetic()) for spec in specs]


@asynccontextmanager
async def live_driver(
    engines: Sequence[Engine],
    store: Store,
    tools: Mapping[str, ToolBody] | None = None,
    limits: Limits | None = None,
    journal: Journal | None = None,
) -> AsyncIterator[LiveDriver]:
    """In a session with tools of its own, whose processes end with it."""
    runner = ToolRunner(tools or {})
    async with LiveDriver(engines, runner, store, MemoryStates(), WallClock(), limits, journal) as driver:
        yield driver
    await runner.close()


async def submit(store: Store, plan: Plan, rows: Sequence[Mapping[str, Json]], job: str = "job") -> JobId:
    await store.create_job(NewJob(JobId(job), plan.name, encode(plan), rows))
    return JobId(job)


async def run_live(
    plan: Plan,
    rows: Sequence[Mapping[str, Json]],
    tools: Mapping[str, ToolBody] | None = None,
    *,
    engines: Sequence[Engine] | None = None,
    store: Store | None = None,
    limits: Limits | None = None,
    journal: Path | None = None,
) -> tuple[Status, list[ResultRow], list[Engine]]:
    """The job's end, its rows in order, and the engines it ran on."""
    store, engines = store or MemoryStore(), list(engines or scripted_fleet())
    job = await submit(store, plan, rows)
    log = Journal(journal) if journal else None
    async with live_driver(engines, store, tools, limits, log) as driver:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        status = await driver.run(claim)
    if log:
        log.close()
    return status, [row async for row in store.results(job)], engines
