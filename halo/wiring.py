"""The only place that builds real things: the store, the program state, the engines, the tools and their driver."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from executor.clock import Clock, WallClock
from executor.core.limits import Limits
from executor.door.limits import DoorLimits
from executor.drivers.call_metrics import CallMetrics
from executor.drivers.door import CALL_S, Door
from executor.drivers.live import LiveDriver
from executor.drivers.places import SharedPlaces
from executor.drivers.reasons import MOST_PROGRAMS, Reasons
from executor.engines.open import open_engine, open_upstream
from executor.engines.port import Engine, EngineSpec
from executor.journal import Journal, RecentEvents
from executor.policy.rules import HALO
from executor.store.failures import StoreRefused, StoreUnavailable
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.result_cache import CacheBounds, CachingStore, ResultCache
from executor.store.sql import open_store
from executor.tokenization.counting import PromptCounter
from executor.tokenization.open import block_tokens_of, folder_tokenizers
from executor.tools import ToolBody, ToolRunner
from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramStates
from kvstore.redis_state import RedisStates

MEMORY = "memory://"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything a process needs to run jobs. `engines` know the models they serve."""

    store: Store
    states: ProgramStates
    engines: tuple[Engine, ...]
    tools: ToolRunner
    driver: LiveDriver
    places: SharedPlaces
    metrics: CallMetrics
    window: RecentEvents


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """Where results are kept for later jobs: in a database of their own, or, without a `url`, in the store's."""

    url: str | None = None
    bounds: CacheBounds = CacheBounds()  # noqa: RUF009 - frozen


@asynccontextmanager
async def open_runtime(
    engines: Sequence[EngineSpec],
    tools: Mapping[str, ToolBody],
    *,
    database_url: str = MEMORY,
    redis_url: str | None = None,
    limits: Limits | None = None,
    journal: Path | None = None,
    clock: Clock | None = None,
    salted: bool = False,
    cache: CacheChoice | None = None,
    decisions: int = MOST_PROGRAMS,
    window: int = 0,
    rule: str = HALO.name,
) -> AsyncIterator[Runtime]:
    """Open everything, run the driver while the block lasts, close everything in the reverse order.

    Engines that name no models are asked which they serve; one that does not answer then serves none until it does.
    Where calls are `salted`, tenants share no prefix cache.
    With a `cache`, results are kept for later jobs; one that cannot be opened is done without. Of so many programs of a
    job the scheduler's `decisions` are kept. The newest `window` events are kept in memory. Calls of jobs get engines
    by the `rule` of that name in `executor.policy.rules`.
    Raises `NotTokenized` where a tokenizer that an engine's options name cannot be opened.
    """
    clock = clock or WallClock()
    async with AsyncExitStack() as stack:
        store = await open_any_store(database_url)
        stack.push_async_callback(store.close)
        states = open_states(redis_url)
        stack.push_async_callback(states.close)
        opened = [await _open(spec) for spec in engines]
        for engine in opened:
            stack.push_async_callback(engine.close)
        runner = ToolRunner(tools)
        stack.push_async_callback(runner.close)
        events = Journal(journal) if journal else None
        if events:
            stack.callback(events.close)
        recent = RecentEvents(window, events)
        results = await _open_cache(cache, store, stack) if cache else None
        bounds, counter, reasons = cache.bounds if cache else None, _counter(opened), Reasons(decisions)
        upstreams = {engine.spec.id: open_upstream(engine) for engine in opened}
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        places, metrics = SharedPlaces([engine.spec for engine in opened]), CallMetrics()
        driver = LiveDriver(
            opened,
            runner,
            store,
            states,
            clock,
            limits,
            recent if window else events,
            results,
            bounds,
            counter,
            reasons,
            upstreams,
            salted=salted,
            places=places,
            metrics=metrics,
            rule=rule,
        )
        await stack.enter_async_context(driver)
        yield Runtime(store, states, tuple(opened), runner, driver, places, metrics, recent)


@asynccontextmanager
async def open_door(
    runtime: Runtime, limits: DoorLimits | None = None, *, journal: Path | None = None, call_s: float = CALL_S
) -> AsyncIterator[Door]:
    """For agents outside of Halo, on the engines of the runtime. Its events go beside the `journal` of jobs' events,
    whose times are of another clock."""
    upstreams = {engine.spec.id: open_upstream(engine) for engine in runtime.engines}
    events = Journal(door_journal(journal)) if journal else None
    states, places, metrics = runtime.states, runtime.places, runtime.metrics
    door = Door(
        runtime.engines,
        upstreams,
        states,
        WallClock(),
        limits,
        places=places,
        metrics=metrics,
        journal=events,
        call_s=call_s,
    )
    with closing(events) if events else nullcontext():
        async with door:
            yield door


def door_journal(journal: Path) -> Path:
    """Where the door's events are written: `events.txt` has them in `events.door.txt`."""
    return journal.with_name(f"{journal.stem}.door{journal.suffix}")


def _counter(engines: Sequence[Engine]) -> PromptCounter | None:
    """Where the fleet file names tokenizers. Engines are not asked: planning would wait for them."""
    specs = [engine.spec for engine in engines]
    tokenizers = folder_tokenizers(specs)
    return PromptCounter(tokenizers, block_tokens_of(specs)) if tokenizers else None


async def _open_cache(choice: CacheChoice, store: CachingStore, stack: AsyncExitStack) -> ResultCache | None:
    if choice.url is None:
        return store.result_cache
    try:
        apart = await open_any_store(choice.url)
    except (StoreRefused, StoreUnavailable) as error:
        log.warning("the result cache cannot be opened; work is done again", error=str(error))
        return None
    stack.push_async_callback(apart.close)
    return apart.result_cache


async def open_any_store(database_url: str) -> CachingStore:
    return MemoryStore() if database_url == MEMORY else await open_store(database_url)


def open_states(redis_url: str | None) -> ProgramStates:
    return RedisStates(redis_url) if redis_url else MemoryStates()


async def _open(spec: EngineSpec) -> Engine:
    engine = open_engine(spec)
    if spec.models:
        return engine
    health = await engine.probe()
    await engine.close()
    context = health.context_tokens or spec.context_tokens
    return open_engine(replace(spec, models=health.bases, adapters=health.adapters, context_tokens=context))
