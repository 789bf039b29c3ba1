"""A whole service in this process: memory or SQLite, a scripted engine, a worker, and a client without sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from executor.clock import WallClock
from executor.door.limits import DoorLimits
from executor.drivers.call_metrics import CallMetrics
from executor.drivers.door import Door
from executor.drivers.live import LiveDriver
from executor.engines.open import open_upstream
from executor.engines.port import Engine, EngineSpec, GenerateRequest
from executor.engines.scripted import Fault, Scripted, no_fault
from executor.engines.synthetic import Synthetic
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.tools import ToolRunner
from halo.sdk.find import find_workflow
from halo.service.app import make_app
from halo.service.catalog import Catalog, make_catalog
from halo.service.doorkeeper import Doorkeeper
from halo.service.draining import Draining
from halo.service.endings import Endings
from halo.service.fleet import FleetView
from halo.service.parts import Parts
from halo.settings import Bounds
from halo.worker import Pace, Worker
from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramStates
from planner.ir.ids import EngineId, JobId

FLOWS = Path(__file__).parent.parent / "halo" / "workflows" / "service_flows.py"
SPEC = EngineSpec(EngineId("small-0"), "scripted", ("small",), gpu="none")


def flows() -> Catalog:
    names = ("greet", "fail", "two_steps")
    return make_catalog([find_workflow(f"{FLOWS}:{name}") for name in names], [])


@dataclass(slots=True)
class Stand:
    """`calls` are the requests the engine was asked; `api` speaks to the app."""

    app: Any
    parts: Parts
    store: Store
    states: ProgramStates
    driver: LiveDriver
    worker: Worker
    api: httpx.AsyncClient
    calls: list[GenerateRequest] = field(default_factory=list)


@asynccontextmanager
async def service(
    store: Store | None = None,
    *,
    states: ProgramStates | None = None,
    faults: Callable[[GenerateRequest], Fault] = no_fault,
    slow_until: asyncio.Event | None = None,
    engines: Sequence[Engine] | None = None,
    bounds: Bounds | None = None,
    tenants: dict[str, str] | None = None,
    operators: Sequence[str] = (),
    working: bool = True,
    pace: Pace | None = None,
    owner: str = "ada",
    catalog: Catalog | None = None,
    doorkeeper: Doorkeeper | None = None,
) -> AsyncIterator[Stand]:
    """Calls that `faults` makes slow end at the event `slow_until`, where one is given."""
    catalog, clock, numbers = catalog or flows(), WallClock(), count(1)
    store, states, endings = store or MemoryStore(), states or MemoryStates(), Endings()
    calls: list[GenerateRequest] = []

    def watched(request: GenerateRequest) -> Fault:
        calls.append(request)
        return faults(request)

    engines = engines if engines is not None else [_scripted(watched, slow_until)]
    async with AsyncExitStack() as stack:
        tools = ToolRunner(catalog.tools)
        stack.push_async_callback(tools.close)
        metrics = CallMetrics()
        driver = await stack.enter_async_context(LiveDriver(engines, tools, store, states, clock, metrics=metrics))
        upstreams = {engine.spec.id: open_upstream(engine) for engine in engines}
        waiting = DoorLimits(waiting=(bounds or Bounds()).calls_waiting)
        door = await stack.enter_async_context(Door(engines, upstreams, states, clock, waiting, metrics=metrics))
        worker = Worker(store, states, driver, owner, pace or Pace(poll_s=0.1, look_s=0.05), endings.tell)
        parts = Parts(
            store=store,
            states=states,
            fleet=FleetView(engines, clock),
            door=door,
            catalog=catalog,
            new_id=lambda: JobId(f"run_{next(numbers)}"),
            endings=endings,
            cancel=driver.cancel,
            progress=driver.progress,
            metrics=metrics,
            doings=driver.doings,
            draining=Draining(store, [engine.spec.id for engine in engines], driver, door),
            bounds=bounds or Bounds(),
            tenants=tenants or {},
            operators=operators,
            doorkeeper=doorkeeper,
        )
        app = make_app(parts)
        transport = httpx.ASGITransport(app=app)
        api = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
        if working:
            await stack.enter_async_context(at_work(worker))
        yield Stand(app, parts, store, states, driver, worker, api, calls)


class _Gate(WallClock):
    """Whoever sleeps by it sleeps until the event."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def sleep(self, seconds: float) -> None:
        await self._event.wait()


def _scripted(faults: Callable[[GenerateRequest], Fault], slow_until: asyncio.Event | None) -> Scripted:
    return Scripted(SPEC, Synthetic(7), faults=faults, clock=None if slow_until is None else _Gate(slow_until))


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """The app on a real socket, where answers stream and clients can go away; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as place:
        serving = asyncio.create_task(server.serve(sockets=[place]))
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        server.should_exit = True
        await serving


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """The worker runs while the block lasts; if it breaks, so does the block."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
