"""Fixed work that an earlier job did is not done again, by whichever driver and process it was done."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from live_runs import MODELS

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.core.limits import Limits
from executor.drivers.live import LiveDriver
from executor.drivers.revisions import Revisions
from executor.engines.port import Engine, EngineHealth, EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.failures import StoreUnavailable
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.result_cache import CacheBounds, CachedResult, CachingStore, ResultCache
from executor.store.sql import open_store
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.codec import encode
from planner.ir.ids import EngineId, JobId

LIMITS = Limits(active_programs=16)
data_version, looked_up = ["1"], []


@halo.tool(effect="pure", version=lambda word: data_version[0])
def look_up(word: str) -> str:
    """The word, as the data of today has it."""
    looked_up.append(word)
    return f"{word} in {data_version[0]}"


@halo.tool(effect="pure")
def unversioned(word: str) -> str:
    """The word again."""
    looked_up.append(word)
    return word


@halo.llm(model="small", max_tokens=16)
def draft(text: str) -> str:
    return f"Draft: {text}"


@halo.llm(model="small", max_tokens=16)
def polish(text: str) -> str:
    return f"Polish: {text}"


@halo.llm(model="small", max_tokens=16, temperature=1.0)
def muse(text: str) -> str:
    return f"Muse: {text}"


@halo.workflow
def two_steps(text: str) -> str:
    return polish(draft(text))


@halo.workflow
def at_random(text: str) -> str:
    return muse(text)


@halo.workflow
def with_tools(text: str) -> dict[str, str]:
    return {"known": look_up(text), "unknown": unversioned(text)}


class Fleet:
    """Scripted engines that remember how often they were asked."""

    def __init__(self, *revisions: str) -> None:
        self.asked = 0
        self.engines: list[Engine] = [
            Scripted(
                EngineSpec(EngineId(f"e{place}"), "scripted", MODELS, revision=revision),
                Synthetic(),
                faults=self._count,
            )
            for place, revision in enumerate(revisions or ("r1",))
        ]

    def _count(self, request: GenerateRequest) -> None:
        self.asked += 1


async def run(
    workflow: halo.Workflow[..., object],
    texts: Sequence[str],
    store: Store,
    kept: ResultCache | None,
    fleet: Fleet,
    job: str = "job",
    **more: object,
) -> tuple[list[object], dict[str, int]]:
    """The results by row, and the job's usage."""
    rows = [{"text": text} for text in texts]
    new = NewJob(JobId(job), workflow.name, encode(workflow.plan), rows, **more)  # type: ignore[arg-type]
    await store.create_job(new)
    driver = LiveDriver(
        fleet.engines, ToolRunner(workflow.tools), store, MemoryStates(), WallClock(), LIMITS, cache=kept
    )
    async with driver:
        claim = await store.claim("test", 60.0, new.id)
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
    return [row.result async for row in store.results(new.id)], dict(await store.usage(new.id))


async def test_of_a_job_that_is_half_known_only_the_other_half_is_run(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'cache.db'}")
    first_half, all_texts = [f"t{n}" for n in range(64)], [f"t{n}" for n in range(128)]

    fleet = Fleet()
    first, used = await run(two_steps, first_half, MemoryStore(), store.result_cache, fleet)
    assert (fleet.asked, used["calls"], used["recalled_calls"]) == (128, 128, 0)

    fleet = Fleet()
    both, used = await run(two_steps, all_texts, MemoryStore(), store.result_cache, fleet)
    assert (fleet.asked, used["calls"], used["saved_calls"], used["recalled_calls"]) == (128, 128, 128, 128)
    assert used["saved_prompt_tokens"] > 0
    assert both[:64] == first

    without, _ = await run(two_steps, all_texts, MemoryStore(), None, Fleet())
    assert both == without
    await store.close()


async def test_a_second_job_of_the_same_process_waits_for_no_disk() -> None:
    store, fleet = MemoryStore(), Fleet()
    await run(two_steps, ["a", "b"], store, store.result_cache, fleet, "one")
    again, used = await run(two_steps, ["b", "a", "a"], store, store.result_cache, fleet, "two")
    assert fleet.asked == 4
    assert (used["calls"], used["saved_calls"], used["recalled_calls"]) == (0, 6, 4)
    assert again[1] == again[2]


async def test_other_weights_other_tenants_and_jobs_that_want_none_ask_anew() -> None:
    store, fleet = MemoryStore(), Fleet()
    cache = store.result_cache
    await run(two_steps, ["a"], store, cache, fleet, "one")
    assert fleet.asked == 2

    for place, more in enumerate([{"tenant": "acme"}, {"cache": False}]):
        await run(two_steps, ["a"], store, cache, fleet, f"again{place}", **more)
        assert fleet.asked == 4 + 2 * place
    newer = Fleet("r2")
    await run(two_steps, ["a"], store, cache, newer, "newer")
    assert newer.asked == 2


@pytest.mark.parametrize("revisions", [("",), ("r1", "r2")])
async def test_what_nobody_can_name_is_not_kept(revisions: tuple[str, ...]) -> None:
    store, fleet = MemoryStore(), Fleet(*revisions)
    await run(two_steps, ["a"], store, store.result_cache, fleet, "one")
    await run(two_steps, ["a"], store, store.result_cache, fleet, "two")
    assert fleet.asked == 4


async def test_samples_are_drawn_anew() -> None:
    store, fleet = MemoryStore(), Fleet()
    for job in ("one", "two"):
        await run(at_random, ["a"], store, store.result_cache, fleet, job)
    assert fleet.asked == 2


async def test_a_tools_results_are_kept_for_the_data_they_are_of() -> None:
    store = MemoryStore()
    looked_up.clear()
    data_version[0] = "1"
    for job in ("one", "two"):
        (result,), used = await run(with_tools, ["a"], store, store.result_cache, Fleet(), job)
        assert result == {"known": "a in 1", "unknown": "a"}
    assert (used["tools"], used["recalled_tools"]) == (1, 1)
    assert looked_up.count("a") == 3, "the tool without a version ran twice"

    data_version[0] = "2"
    (result,), _ = await run(with_tools, ["a"], store, store.result_cache, Fleet(), "three")
    assert result == {"known": "a in 2", "unknown": "a"}


class Broken:
    """A cache that can never be used."""

    async def _fail(self, *_: object) -> None:
        raise StoreUnavailable("the disk is gone")

    names = find = keep = trim = forget = _fail


async def test_a_cache_that_is_broken_costs_nothing_but_itself() -> None:
    fleet = Fleet()
    results, used = await run(two_steps, ["a", "b"], MemoryStore(), Broken(), fleet)  # type: ignore[arg-type]
    assert (len(results), used["calls"]) == (2, 4)


class Forgetful:
    """A cache that has lost what it says it holds."""

    def __init__(self, cache: ResultCache) -> None:
        self.names, self.keep, self.trim, self.forget = cache.names, cache.keep, cache.trim, cache.forget

    async def find(self, names: Sequence[str]) -> dict[str, CachedResult]:
        return {}


async def test_what_was_forgotten_meanwhile_is_asked_again() -> None:
    store, fleet = MemoryStore(), Fleet()
    await run(two_steps, ["a"], store, store.result_cache, fleet, "one")
    await run(two_steps, ["a"], store, Forgetful(store.result_cache), fleet, "two")
    assert fleet.asked == 4


class Slow:
    """A cache that takes until it is told to go on."""

    def __init__(self, cache: ResultCache) -> None:
        self._cache = cache
        self.asked, self.goes_on, self.found = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.names, self.keep, self.trim, self.forget = cache.names, cache.keep, cache.trim, cache.forget

    async def find(self, names: Sequence[str]) -> object:
        self.asked.set()
        await self.goes_on.wait()
        self.found.set()
        return await self._cache.find(names)


async def test_a_job_that_is_cancelled_while_results_are_looked_up_ends_at_once() -> None:
    store: CachingStore = MemoryStore()
    await run(two_steps, ["a"], store, store.result_cache, Fleet(), "one")
    slow = Slow(store.result_cache)
    await store.create_job(NewJob(JobId("two"), "w", encode(two_steps.plan), [{"text": "a"}]))
    driver = LiveDriver(
        Fleet().engines,
        ToolRunner({}),
        store,
        MemoryStates(),
        WallClock(),
        LIMITS,
        cache=slow,  # type: ignore[arg-type]
    )
    async with driver:
        claim = await store.claim("test", 60.0, JobId("two"))
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        async with asyncio.timeout(60):
            await slow.asked.wait()
            driver.cancel(JobId("two"))
            assert await running is Status.CANCELLED
            slow.goes_on.set()
            await slow.found.wait()
        await asyncio.sleep(0.05)  # what is found for nobody harms nobody


async def test_large_results_and_more_than_there_is_room_for_are_not_kept() -> None:
    store = MemoryStore()
    new = NewJob(JobId("job"), "w", encode(two_steps.plan), [{"text": str(n)} for n in range(40)])
    await store.create_job(new)
    bounds = CacheBounds(entries=20)
    driver = LiveDriver(
        Fleet().engines, ToolRunner({}), store, MemoryStates(), WallClock(), LIMITS, None, store.result_cache, bounds
    )
    async with driver:
        claim = await store.claim("test", 60.0, new.id)
        assert claim is not None
        await driver.run(claim)
    # A tenth more than must be is forgotten, and what is kept after that has room.
    assert 18 <= len((await store.result_cache.names()).names) <= bounds.entries


def test_the_revision_of_a_model_is_what_all_its_engines_serve() -> None:
    small = EngineSpec(EngineId("a"), "vllm", ("small",), served_names={"small": "org/small"})
    revisions = Revisions([small, replace(small, id=EngineId("b"))])
    said = EngineHealth(True, ("org/small",), revisions={"org/small": "w1 on 0.24"})
    assert revisions.of("small") is None
    revisions.note(EngineId("a"), said)
    assert revisions.of("small") == "w1 on 0.24", "the other is away"
    revisions.note(EngineId("b"), replace(said, revisions={"org/small": "w2 on 0.24"}))
    assert revisions.of("small") is None
    revisions.note(EngineId("b"), replace(said, ready=False))
    assert revisions.of("small") == "w1 on 0.24"
    assert Revisions([replace(small, revision="mine")]).of("small") is None, "nobody has seen it yet"
