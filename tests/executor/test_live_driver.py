"""The live driver against engines and stores that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from live_runs import MODELS, live_driver, run_live, scripted_fleet, submit

import halo
from executor.commands import Status
from executor.core.limits import Limits
from executor.engines.port import EngineSpec, Failure, FailureClass, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.failures import Fenced, StoreUnavailable
from executor.store.jobs import Claim
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.sql import open_store
from executor.store.writes import Write
from planner.ir.ids import EngineId, JobId
from planner.measured import How


@halo.tool(effect="idempotent", timeout=0.2)
async def hang(text: str) -> str:
    """Never ends."""
    await asyncio.sleep(3600)
    return text


@halo.tool(effect="idempotent", timeout=200)
def flood(text: str) -> str:
    """Gives back too much."""
    return text * 20_000


@halo.tool(effect="idempotent")
def fail(text: str) -> str:
    """Raises."""
    raise ValueError(f"cannot do {text}")


@halo.llm(model="small", max_tokens=16)
def ask(text: str) -> str:
    return f"Say something about {text}"


@halo.workflow
def two_calls(text: str) -> str:
    return ask(ask(text))


@halo.workflow
def with_hang(text: str) -> str:
    return hang(ask(text))


@halo.workflow
def with_flood(text: str) -> str:
    return flood(text)


@halo.workflow
def with_failure(text: str) -> str:
    return fail(text)


ROWS = [{"text": f"thing {number}"} for number in range(40)]


@pytest.mark.parametrize(
    ("workflow", "code"),
    [(with_hang, "tool_timeout"), (with_flood, "tool_output_too_large"), (with_failure, "tool_raised")],
)
async def test_a_tool_that_misbehaves_fails_its_row_with_a_reason(workflow: halo.Workflow, code: str) -> None:
    status, (row,), _ = await run_live(workflow.plan, [{"text": "x" * 100}], workflow.tools)
    assert (status, row.status) == (Status.FAILED, Status.FAILED)
    assert row.failure is not None
    assert row.failure.code == code


async def test_engines_that_fail_now_and_then_lose_no_row() -> None:
    seen: set[str] = set()

    def faults(request: GenerateRequest) -> Failure | None:
        """Every third prompt fails once, each in one of four ways."""
        prompt = str(request.messages)
        if prompt in seen or len(prompt) % 3:
            return None
        seen.add(prompt)
        kinds = (FailureClass.ENGINE, FailureClass.ENGINE_DIED, FailureClass.RATE, FailureClass.ENGINE)
        return Failure(kinds[len(seen) % 4], "injected", "on purpose", retry_after_s=0.01)

    engines = [
        Scripted(EngineSpec(EngineId(name), "scripted", MODELS, max_running=8), Synthetic(), faults=faults)
        for name in ("one", "two")
    ]
    status, rows, _ = await run_live(two_calls.plan, ROWS, engines=engines)
    assert status is Status.SUCCEEDED
    assert len(rows) == len(ROWS)


async def test_a_job_taken_over_by_another_is_dropped_here() -> None:
    store = MemoryStore()
    job = await submit(store, two_calls.plan, ROWS)
    async with live_driver(scripted_fleet(), TakenOver(store, after=1)) as driver:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        with pytest.raises(Fenced):
            await driver.run(claim)


async def test_a_store_that_is_away_for_a_while_costs_time_and_nothing_else() -> None:
    store = Flaky(MemoryStore(), failures=3)
    status, rows, _ = await run_live(two_calls.plan, ROWS[:5], store=store)
    assert status is Status.SUCCEEDED
    assert all(row.status is Status.SUCCEEDED for row in rows)


async def test_a_driver_that_is_closed_gives_its_job_back_and_another_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'job.db'}"
    asked: list[str] = []

    def slow(request: GenerateRequest) -> float:
        asked.append(str(request.messages))
        return 0.02

    store = await open_store(url)
    job = await submit(store, two_calls.plan, ROWS)
    async with live_driver(_slow_fleet(slow), store, limits=Limits(active_programs=4)) as driver:
        claim = await store.claim("first", 60.0, job)
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        while len(asked) < 20:
            await asyncio.sleep(0.01)
    running.cancel()
    begun = len(asked)
    async with live_driver(_slow_fleet(slow), store) as driver:
        claim = await store.claim("second", 60.0, job)
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
    await store.close()
    # Only what was in flight when the first was closed is asked again.
    assert len(asked) <= 2 * len(ROWS) + 4
    assert len(asked) > begun


async def test_after_a_restart_equal_rows_still_share_what_ended_rows_did() -> None:
    store, rows = MemoryStore(), [{"text": f"thing {number % 10}"} for number in range(200)]
    asked: list[str] = []

    def slow(request: GenerateRequest) -> float:
        asked.append(str(request.messages))
        return 0.005

    job = await submit(store, two_calls.plan, rows)
    async with live_driver(_slow_fleet(slow), store, limits=Limits(active_programs=2)) as driver:
        claim = await store.claim("first", 60.0, job)
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        while (progress := driver.progress(job)) is None or progress.ended < 150:
            await asyncio.sleep(0.001)
    running.cancel()
    before = len(asked)
    async with live_driver(_slow_fleet(slow), store) as driver:
        claim = await store.claim("second", 60.0, job)
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
    assert before >= 10
    assert len(set(asked)) == 20
    assert len(asked) <= 20 + 2, "at most what was in flight is asked again"


async def test_cancel_keeps_what_is_finished(tmp_path: Path) -> None:
    store = MemoryStore()
    job = await submit(store, two_calls.plan, ROWS)
    async with live_driver(_slow_fleet(lambda _: 0.02), store, limits=Limits(active_programs=2)) as driver:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        while (progress := driver.progress(job)) is None or progress.ended < 6:
            await asyncio.sleep(0.01)
        driver.cancel(job)
        assert await running is Status.CANCELLED
    statuses = [row.status async for row in store.results(job)]
    assert statuses.count(Status.SUCCEEDED) >= 6
    assert set(statuses) == {Status.SUCCEEDED, Status.CANCELLED}


def _slow_fleet(faults: object) -> list[Scripted]:
    spec = EngineSpec(EngineId("one"), "scripted", MODELS, max_running=4)
    return [Scripted(spec, Synthetic(), faults=faults)]  # type: ignore[arg-type]


class Passing:
    """A store that hands everything on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def results(self, job: str, after_row: int = -1) -> AsyncIterator[object]:
        return self._store.results(job, after_row)  # type: ignore[arg-type]


class TakenOver(Passing):
    """After some writes, somebody else claims the job."""

    def __init__(self, store: Store, after: int) -> None:
        super().__init__(store)
        self._left = after

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        self._left -= 1
        if self._left < 0:
            raise Fenced(f"job {claim.job} has another holder")
        await self._store.write(claim, writes)


class Flaky(Passing):
    """The first writes fail."""

    def __init__(self, store: Store, failures: int) -> None:
        super().__init__(store)
        self._failures = failures

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("the database is away")
        await self._store.write(claim, writes)


@halo.llm(model="small")
def greet(name: str) -> str:
    return f"Greet {name}."


@halo.workflow
def greet_twice(name: str) -> list[str]:
    return [greet(name), greet(name)]


async def test_equal_calls_of_one_program_are_made_once_and_both_are_read() -> None:
    status, rows, _ = await run_live(greet_twice.plan, [{"name": "Ada"}])
    assert status is Status.SUCCEEDED
    first, second = rows[0].result
    assert first == second


async def test_when_calls_and_tools_were_ready_begun_and_ended_is_stored() -> None:
    store = MemoryStore()
    await run_live(asked_then_shouted.plan, [{"text": "a"}, {"text": "a"}], asked_then_shouted.tools, store=store)

    tallies = {(tally.path, tally.how): tally for tally in await store.tallies(JobId("job"))}
    spans = await store.call_spans(JobId("job"))

    call, tool = tallies["ask", How.MADE], tallies["shout", How.MADE]
    assert (call.nodes, tallies["ask", How.SHARED].nodes) == (1, 1)
    assert call.first_begun_at is not None
    assert tool.first_begun_at is not None
    assert call.first_begun_at <= (call.last_ended_at or 0) <= tool.first_begun_at <= (tool.last_ended_at or 0)
    assert tallies["ask", How.SHARED].first_begun_at is None
    assert [(span.path, span.begun_at, span.ended_at) for span in spans] == [
        ("ask", call.first_begun_at, call.last_ended_at)
    ]


@halo.tool(effect="idempotent")
def shout(text: str) -> str:
    """Louder."""
    return text.upper()


@halo.workflow
def asked_then_shouted(text: str) -> str:
    return shout(ask(text))
