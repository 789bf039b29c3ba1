"""`halo serve`: the HTTP service and a worker in one process, until it is told to stop."""

import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import structlog
import uvicorn

from executor.clock import WallClock
from executor.core.limits import Limits
from executor.door.limits import DoorLimits
from executor.drivers.door import Door
from executor.engines.fleet_file import read_fleet
from executor.engines.model.profiles import in_real_time
from executor.engines.port import EngineSpec
from executor.store.jobs import Weights
from executor.store.result_cache import CacheBounds
from halo.event_loop import run_process
from halo.leases import LeaseKeeper, LeaseTimes
from halo.prices import read_prices
from halo.service.app import make_app
from halo.service.catalog import Catalog, load_catalog
from halo.service.doorkeeper import Doorkeeper
from halo.service.draining import Draining
from halo.service.endings import Endings
from halo.service.fleet import FleetView
from halo.service.parts import Parts
from halo.settings import Settings, SettingsInvalid, tenant_shares, tenants_by_hash
from halo.tuning import Tuner, look_aside
from halo.tuning_metrics import TuningMetrics
from halo.wiring import MEMORY, CacheChoice, Runtime, open_any_store, open_door, open_runtime
from halo.worker import Pace, Worker, owner_name
from planner.errors import Problem
from planner.ir.ids import JobId

#: Requests that are being answered when the service is told to stop may take so long.
LAST_ANSWERS_S = 10
#: A store in this process cannot be taken over by anybody.
FOR_EVER_S = 1e9
INTERRUPTED = 130

log = structlog.get_logger(__name__)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def serve(settings: Settings, engines: Sequence[EngineSpec] | None = None, tell: Callable[[str], None] = say) -> int:
    """Serve until SIGTERM or Ctrl-C: 0, or 1 when Halo itself failed. `engines` stand in for the settings' fleet.

    Unfinished runs are given back, so that another process, or the next start, goes on with them. A tool that hangs in
    a thread does not keep the process: it ends here, without returning. Raises `SettingsInvalid`, `FleetInvalid`,
    `AnswersInvalid`, `StoreRefused` or `StoreUnavailable` when it cannot start.
    """
    catalog = load_catalog(settings.workflows)
    if engines is None:
        engines = read_fleet(settings.fleet) if settings.fleet else ()
    with listener(settings) as listening:
        code = run_process(_serve(settings, catalog, engines, listening, tell))
    _leave_hanging_tools(code)
    return code


def _leave_hanging_tools(code: int) -> None:
    """Their runs are given back: somebody else may be doing the same already."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def listener(settings: Settings) -> Iterator[socket.socket]:
    """The socket to be served. Raises `SettingsInvalid` when the address cannot be had."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        what = f"cannot listen on {settings.host}:{settings.port} ({error.strerror})"
        raise SettingsInvalid((Problem("port", what, "choose another host or port"),)) from None
    with listening:
        yield listening


async def _serve(
    settings: Settings,
    catalog: Catalog,
    engines: Sequence[EngineSpec],
    listening: socket.socket,
    tell: Callable[[str], None],
) -> int:
    limits = Limits(active_programs=settings.limits.programs, **tenant_shares(settings))
    async with open_runtime(
        engines,
        catalog.tools,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        limits=limits,
        journal=settings.journal,
        cache=_cache(settings),
        salted=bool(tenants_by_hash(settings)),
        decisions=settings.limits.decisions,
        rule=settings.rule,
        window=settings.tuning.events if settings.tuning.every_s else 0,
    ) as runtime:
        owner, endings = owner_name(), Endings()
        bounds = settings.limits
        limits_of_door = DoorLimits(waiting=bounds.calls_waiting, **tenant_shares(settings))
        doors = open_door(runtime, limits_of_door, journal=settings.journal, call_s=bounds.call_s)
        tuning = _tuning(settings, runtime)
        async with _leases(settings, owner) as lease_s, doors as door, tuning as tuner:
            pace = Pace(jobs=bounds.jobs, lease_s=lease_s, weights=_weights(limits))
            keeper = Doorkeeper(runtime.store, lambda: runtime.driver.outlook, runtime.driver.cost_of, WallClock())
            worker = Worker(runtime.store, runtime.states, runtime.driver, owner, pace, _tells(endings, keeper))
            parts = replace(_parts(settings, catalog, runtime, door, endings, tuner), doorkeeper=keeper)
            server = _Server(_config(parts), endings)
            await parts.draining.look()
            for line in _greeting(parts, engines, listening):
                tell(line)
            _listen_to_signals(server, tell)
            async with _followed(parts.draining):
                return await _until_stopped(server, worker, listening)


@asynccontextmanager
async def _followed(draining: Draining) -> AsyncIterator[None]:
    """What operators tell other replicas is done here, too, while the block lasts."""
    following = asyncio.create_task(draining.follow(WallClock()), name="following which engines are drained")
    following.add_done_callback(_say_why_it_ended)
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])


@asynccontextmanager
async def _tuning(settings: Settings, runtime: Runtime) -> AsyncIterator[Tuner | None]:
    """The scheduler is tuned while the block lasts, where the settings ask for it."""
    every_s = settings.tuning.every_s
    if not every_s:
        yield None
        return
    fleet = [in_real_time(engine.spec) for engine in runtime.engines]
    tuner = Tuner(runtime.driver, runtime.window, fleet, WallClock(), look_aside, every_s)
    runtime.metrics.registry.register(TuningMetrics(lambda: tuner.state))
    tuning = asyncio.create_task(tuner.run(), name="tuning")
    tuning.add_done_callback(_say_why_it_ended)
    try:
        yield tuner
    finally:
        tuning.cancel()
        await asyncio.wait([tuning])


def _say_why_it_ended(task: "asyncio.Task[None]") -> None:
    """Whatever it found so far stays in force."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(f"{task.get_name()} ended", exc_info=error)


def _weights(limits: Limits) -> Weights:
    return Weights({name: share.weight for name, share in limits.tenants.items()}, limits.any_tenant.weight)


def _cache(settings: Settings) -> CacheChoice | None:
    if not settings.result_cache:
        return None
    return CacheChoice(bounds=CacheBounds(settings.limits.cache_results, settings.limits.cache_bytes))


@asynccontextmanager
async def _leases(settings: Settings, owner: str) -> AsyncIterator[float]:
    """How long claims last; they are renewed while the block lasts."""
    url, lease_s = settings.database_url, settings.limits.lease_s
    if url == MEMORY:
        yield FOR_EVER_S
        return
    times = LeaseTimes(lease_s, every_s=lease_s / 3, silent_s=lease_s * 2 / 3)
    async with LeaseKeeper(lambda: open_any_store(url), owner, times):
        yield lease_s


def _parts(
    settings: Settings, catalog: Catalog, runtime: Runtime, door: Door, endings: Endings, tuner: Tuner | None
) -> Parts:
    return Parts(
        store=runtime.store,
        states=runtime.states,
        fleet=FleetView(runtime.engines, WallClock()),
        door=door,
        catalog=catalog,
        new_id=new_run_id,
        endings=endings,
        cancel=runtime.driver.cancel,
        progress=runtime.driver.progress,
        doings=runtime.driver.doings,
        draining=Draining(runtime.store, [engine.spec.id for engine in runtime.engines], runtime.driver, door),
        metrics=runtime.metrics,
        tuning=lambda: tuner.state if tuner else None,
        bounds=settings.limits,
        tenants=tenants_by_hash(settings),
        operators=settings.operators,
        prices=read_prices(os.environ),
        state_is="Redis" if settings.redis_url else "in-process: one process",
    )


def _tells(endings: Endings, keeper: Doorkeeper) -> Callable[[JobId], None]:
    def ended(job: JobId) -> None:
        keeper.ended(job)
        endings.tell(job)

    return ended


def new_run_id() -> JobId:
    return JobId(f"run_{secrets.token_hex(12)}")


def _greeting(parts: Parts, engines: Sequence[EngineSpec], listening: socket.socket) -> Iterator[str]:
    host, port = listening.getsockname()[:2]
    yield f"Halo listens on http://{f'[{host}]' if ':' in host else host}:{port} (docs: /docs)"
    yield f"workflows: {', '.join(sorted(parts.catalog.workflows)) or 'none'}; engines: {len(engines)}"
    if drained := parts.draining.drained:
        yield f"drained by an operator: {', '.join(drained)} (`halo engines resume` sends calls there again)"
    yield f"live state: {parts.state_is}"
    yield "agents that speak OpenAI's API: OPENAI_BASE_URL is the address above with /v1"
    if not parts.tenants:
        yield "no API keys are configured: only this machine is answered"


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it, so that what is around it can be closed in order."""

    def __init__(self, config: uvicorn.Config, endings: Endings) -> None:
        super().__init__(config)
        self._endings = endings

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """No new requests; those who wait for a run are told that it is not done yet."""
        self.should_exit = True
        self._endings.close()


def _config(parts: Parts) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(parts),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )


async def _until_stopped(server: _Server, worker: Worker, listening: socket.socket) -> int:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    working = asyncio.create_task(worker.run())
    await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    await serving
    broken = working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    if broken:
        log.error("the worker failed; what is unfinished is given back", exc_info=working.exception())
    return 1 if broken else 0


def _listen_to_signals(server: _Server, tell: Callable[[str], None]) -> None:
    """Once: stop in order. Twice: at once, as after a crash, which loses nothing either."""

    def stop() -> None:
        if server.should_exit:
            os._exit(INTERRUPTED)
        tell("stopping; what is unfinished is given back (once more: stop at once)")
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
