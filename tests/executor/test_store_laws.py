"""Whatever is asked of them, in whatever order, all bodies of the store answer the same."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.commands import Status
from executor.engines.port import Failure, FailureClass
from executor.store.failures import Fenced, IdempotencyConflict, JobUnknown
from executor.store.jobs import Claim, JobRecord, JobStatus, NewJob
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.sql import open_store, upgrade
from executor.store.tables import plain_text, stored_text
from executor.store.told import StoredEvent
from executor.store.writes import JobEnded, NodeOutput, ProgramEnded, ToolBegun, Work, Write
from planner.ir.ids import EngineId, JobId
from tests.executor.store_bodies import fresh_stores

ROWS = 3
OWNERS = st.sampled_from(["one", "two"])
NAMES = [JobId("j1"), JobId("j2"), JobId("j3")]
JOBS = st.sampled_from(NAMES)
PATHS = st.sampled_from(["a", "b", "c#0/1"])
ROW = st.integers(0, ROWS - 1)
TEXTS = st.sampled_from(["", "1", "text \x00", "\ud800", "\x01"])
LEASES = st.sampled_from([0.0, 600.0])
WORKS = st.builds(Work, *[st.integers(0, 9)] * 5)

outputs = st.builds(
    NodeOutput,
    ROW,
    PATHS,
    st.just(1),
    TEXTS,
    st.sampled_from([(), ("grep",)]),
    st.none(),
    WORKS,
    st.sampled_from([None, EngineId("e")]),
)
sharing = st.builds(NodeOutput, ROW, PATHS, st.just(1), st.none(), st.just(()), st.tuples(JOBS, ROW, PATHS), WORKS)
begun = st.builds(ToolBegun, ROW, PATHS, st.just(1))
failures = st.sampled_from([None, Failure(FailureClass.ROW, "bad", "it is bad")])
programs = st.builds(ProgramEnded, ROW, st.sampled_from(Status), st.sampled_from([None, '{"a": 1}']), failures)
writes: st.SearchStrategy[list[Write]] = st.lists(
    st.one_of(outputs, sharing, begun, programs, st.builds(JobEnded, st.sampled_from(Status))), max_size=6
)


@dataclass(frozen=True)
class Create:
    job: JobId
    tenant: str
    priority: int
    key: str | None
    hash: str


@dataclass(frozen=True)
class Take:
    owner: str
    lease_s: float
    job: JobId | None


@dataclass(frozen=True)
class Put:
    """`claim` counts back from the latest."""

    claim: int
    writes: list[Write]


@dataclass(frozen=True)
class GiveBack:
    claim: int


@dataclass(frozen=True)
class Renew:
    owner: str


@dataclass(frozen=True)
class Cancel:
    job: JobId


Deed = Create | Take | Put | GiveBack | Renew | Cancel
deeds = st.lists(
    st.one_of(
        st.builds(
            Create,
            JOBS,
            st.sampled_from(["ann", "eve"]),
            st.integers(0, 1),
            st.sampled_from([None, "k"]),
            st.sampled_from(["h", "other"]),
        ),
        st.builds(Take, OWNERS, LEASES, st.none() | JOBS),
        st.builds(Put, st.integers(1, 2), writes),
        st.builds(Put, st.just(1), writes),
        st.builds(GiveBack, st.integers(1, 2)),
        st.builds(Renew, OWNERS),
        st.builds(Cancel, JOBS),
    ),
    max_size=14,
).map(lambda rest: [Create(JobId("j1"), "ann", 0, None, "h"), Take("one", 0.0, None), *rest])


async def story(store: Store, deeds: Sequence[Deed]) -> list[Any]:
    """What the store answers to each deed, and what it tells of every job at the end."""
    claims: list[Claim] = []
    told = [await _answer(lambda deed=deed: _do(store, deed, claims)) for deed in deeds]
    for job in NAMES:
        for ask in (_results, _record, _events, store.usage, _contents):
            told.append(await _answer(lambda ask=ask, job=job: ask(job) if ask == store.usage else ask(store, job)))
    return [*told, [_timeless(record) for record in await store.jobs()]]


async def _answer(ask: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await ask()
    except (Fenced, JobUnknown, IdempotencyConflict) as refusal:
        return type(refusal)


async def _do(store: Store, deed: Deed, claims: list[Claim]) -> Any:
    match deed:
        case Create():
            return _timeless(await store.create_job(_new_job(deed)))
        case Take(owner, lease_s, wanted):
            if (claim := await store.claim(owner, lease_s, wanted)) is not None:
                claims.append(claim)
            return claim
        case Put(which, writes):
            return await store.write(claims[-min(which, len(claims))], writes)
        case GiveBack(which):
            return await store.release(claims[-min(which, len(claims))])
        case Renew(owner):
            return sorted(await store.renew(owner, 600.0)), sorted(await store.cancels_requested(owner))
        case Cancel(job):
            return _timeless(await store.request_cancel(job))


def _new_job(deed: Create) -> NewJob:
    rows = [{"n": row} for row in range(ROWS)]
    key, request_hash = deed.key, deed.hash
    return NewJob(deed.job, "w", "plan", rows, deed.tenant, deed.priority, key, request_hash)


async def _results(store: Store, job: JobId) -> Any:
    return [row async for row in store.results(job)]


async def _record(store: Store, job: JobId) -> Any:
    return _timeless(await store.job(job))


def _timeless(record: JobRecord) -> JobRecord:
    times = [None if time is None else "some time" for time in (record.started_at, record.ended_at)]
    return replace(record, created_at="some time", started_at=times[0], ended_at=times[1])


async def _events(store: Store, job: JobId) -> Any:
    events: Sequence[StoredEvent] = await store.events(job)
    return [(event.kind, event.row, event.detail) for event in events]


async def _contents(store: Store, job: JobId) -> Any:
    for owner in ("one", "two"):
        if (claim := await store.claim(owner, 0.0, job)) is not None:
            contents = await store.load(claim)
            assert contents.record.status is JobStatus.RUNNING
            return claim, contents.plan, list(contents.rows), list(contents.ended), dict(contents.saved)
    return None


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("laws") / "empty.db"
    asyncio.run(upgrade(f"sqlite:///{file}"))
    return file


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds)
def test_sqlite_answers_as_memory_does(empty_file: Path, deeds: list[Deed]) -> None:
    file = Path(shutil.copy(empty_file, empty_file.with_name("story.db")))

    async def both() -> tuple[list[Any], list[Any]]:
        store = await open_store(f"sqlite:///{file}")
        try:
            return await story(store, deeds), await story(MemoryStore(), deeds)
        finally:
            await store.close()

    in_file, in_memory = asyncio.run(both())
    assert in_file == in_memory


@pytest.mark.postgres
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds)
def test_postgres_answers_as_memory_does(postgres_tables: str, deeds: list[Deed]) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        async with fresh_stores(postgres_tables) as stores:
            return await story(await stores.open(), deeds), await story(MemoryStore(), deeds)

    in_server, in_memory = asyncio.run(both())
    assert in_server == in_memory


@given(st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lu"])))
def test_any_text_is_stored_as_one_that_any_database_holds_and_comes_back(text: str) -> None:
    stored = stored_text(text)

    assert "\x00" not in stored
    assert stored.encode().decode() == stored
    assert plain_text(stored) == text
