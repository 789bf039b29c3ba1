"""What can go wrong with a database, and what the SQL store makes of it."""

import asyncio
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from executor.commands import Status
from executor.store.database import Database, database_url
from executor.store.failures import StoreRefused, StoreUnavailable
from executor.store.jobs import Claim, NewJob
from executor.store.port import Store
from executor.store.sql import open_store
from executor.store.writes import JobEnded, NodeOutput, ProgramEnded, Work
from planner.ir.ids import JobId
from tests.executor import store_writer
from tests.executor.store_bodies import POSTGRES, Stores, administer, fresh_stores, store_url

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(store_url(request, tmp_path))


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Stores]:
    async with fresh_stores(url) as stores:
        yield stores


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "halo.db"


@pytest.fixture
async def on_file(file: Path) -> AsyncIterator[Store]:
    store = await open_store(f"sqlite:///{file}", lock_wait_s=0.05)
    yield store
    await store.close()


@pytest.fixture
async def on_postgres(postgres_tables: str) -> AsyncIterator[Stores]:
    async with fresh_stores(postgres_tables) as stores:
        yield stores


async def running(store: Store, rows: int = 3) -> Claim:
    await store.create_job(NewJob(JobId("job"), "w", "{}", [{"n": row} for row in range(rows)]))
    claim = await store.claim("one", 60)
    assert claim is not None
    return claim


# Opening


@pytest.mark.parametrize("address", ["mysql://host/db", "not an address", "sqlite://", "sqlite:///:memory:"])
async def test_an_address_that_is_no_store_is_refused_with_the_fix(address: str) -> None:
    with pytest.raises(StoreRefused, match=r"write sqlite:///halo\.db"):
        await open_store(address)


async def test_a_sqlite_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="make it first"):
        await open_store(f"sqlite:///{tmp_path / 'nowhere' / 'halo.db'}")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_text("A letter to a friend, of some length, so that it cannot be taken for an empty file." * 20)

    with pytest.raises(StoreRefused, match="not a database"):
        await open_store(f"sqlite:///{file}")

    assert file.read_text().startswith("A letter")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        await open_store("postgresql://halo@127.0.0.1:1/halo")


@pytest.mark.postgres
async def test_a_database_that_is_not_there_is_refused(postgres_tables: str) -> None:
    with pytest.raises(StoreRefused, match="does not exist"):
        await open_store(f"{postgres_tables}_no_such")


# Durability


async def test_commits_are_on_disk_before_they_are_told(tmp_path: Path) -> None:
    database = Database(database_url(f"sqlite:///{tmp_path / 'halo.db'}"))

    def pragma(connection: Connection, name: str) -> object:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    full = 2
    assert await database.write(pragma, "synchronous") == full
    assert await database.read(pragma, "journal_mode") == "wal"
    await database.close()


async def test_a_killed_process_leaves_all_it_was_told_is_committed(url: str, stores: Stores) -> None:
    await stores.open()
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        store_writer.__file__,
        url,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert victim.stdout is not None
    told = 0
    async with asyncio.timeout(200):
        while told < 1000:
            told = int(await victim.stdout.readline())
        victim.kill()
        rest = (await victim.stdout.read()).split()
        await victim.wait()
    told = int(rest[-1]) if rest else told

    heir = await stores.open()
    claim = await heir.claim("heir", 60)
    assert claim is not None
    contents = await heir.load(claim)

    # A group is there whole or not at all; the last one may have been committed and not told.
    ended = len(contents.ended)
    assert ended in (told, told + store_writer.GROUP)
    assert contents.record.counts["succeeded"] == ended
    assert contents.saved == {}
    await heir.write(claim, [ProgramEnded(row, Status.SUCCEEDED, str(row)) for row in range(ended, len(contents.rows))])
    await heir.write(claim, [JobEnded(Status.SUCCEEDED)])
    assert [row.result async for row in heir.results(claim.job)] == list(range(20_000))


# Misfortune


async def test_a_group_that_fails_in_its_middle_leaves_nothing(stores: Stores) -> None:
    store = await stores.open()
    claim = await running(store)
    group = [NodeOutput(0, "a", 1, "1", work=Work(calls=1)), ProgramEnded(0, Status.SUCCEEDED, "1")]
    assert stores.url is not None

    await administer(stores.url, "ALTER TABLE events RENAME TO hidden")
    with pytest.raises(DBAPIError, match="events"):
        await store.write(claim, group)
    await administer(stores.url, "ALTER TABLE hidden RENAME TO events")

    assert (await store.usage(claim.job))["calls"] == 0
    assert [row.status async for row in store.results(claim.job)] == [None] * 3
    await store.write(claim, group)
    assert (await store.usage(claim.job))["calls"] == 1


async def test_a_locked_file_is_unavailable_until_it_is_free_again(on_file: Store, file: Path) -> None:
    claim = await running(on_file)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        await on_file.write(claim, [NodeOutput(0, "a", 1, "1")])
    assert (await on_file.usage(claim.job))["calls"] == 0

    other.execute("ROLLBACK")
    other.close()
    await on_file.write(claim, [NodeOutput(0, "a", 1, "1")])


async def test_a_full_disk_is_unavailable_until_there_is_room_again(on_file: Store, file: Path) -> None:
    claim = await running(on_file)
    big = [NodeOutput(row, "a", 1, "x" * 500_000) for row in range(3)]

    with _no_file_larger_than(400_000), pytest.raises(StoreUnavailable):
        await on_file.write(claim, [*big, ProgramEnded(0, Status.SUCCEEDED, "1")])

    assert (await on_file.job(claim.job)).counts["succeeded"] == 0
    await on_file.write(claim, [*big, ProgramEnded(0, Status.SUCCEEDED, "1")])
    assert (await on_file.job(claim.job)).counts["succeeded"] == 1
    check = sqlite3.connect(file)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    """To SQLite a file that may not grow is a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.postgres
async def test_connections_cut_by_the_server_are_unavailable_once_and_then_new_ones(on_postgres: Stores) -> None:
    store = await on_postgres.open()
    claim = await running(store)
    assert on_postgres.url is not None
    await administer(on_postgres.url, f"SELECT pg_terminate_backend(pid) FROM {_CONNECTIONS}")
    async with asyncio.timeout(60):
        while await _asked(on_postgres.url, f"SELECT count(*) FROM {_CONNECTIONS}"):
            await asyncio.sleep(0.01)

    with pytest.raises(StoreUnavailable):
        await store.write(claim, [NodeOutput(0, "a", 1, "1")])
    await store.write(claim, [NodeOutput(0, "a", 1, "1"), ProgramEnded(0, Status.SUCCEEDED, "1")])

    assert (await store.job(claim.job)).counts["succeeded"] == 1


_CONNECTIONS = "pg_stat_activity WHERE application_name = 'halo' AND datname = current_database()"


async def _asked(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def test_writers_given_up_at_any_moment_leave_whole_groups_and_a_working_store(stores: Stores) -> None:
    store = await stores.open()
    claim = await running(store, 200)

    async def write(row: int) -> None:
        await store.write(claim, [NodeOutput(row, "a", 1, "1"), ProgramEnded(row, Status.SUCCEEDED, "1")])

    for row in range(60):
        task = asyncio.create_task(write(row))
        for _ in range(row):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(write(row) for row in range(60, 200)))
    record = await store.job(claim.job)
    done = [row.row async for row in store.results(claim.job) if row.status is Status.SUCCEEDED]
    assert record.counts["succeeded"] == len(done) >= 140
    taken = await store.claim("one", 60, claim.job)
    assert taken is not None
    # An output whose program has not ended would be half a group.
    assert (await store.load(taken)).saved == {}


async def test_an_output_of_a_million_characters_is_kept(stores: Stores) -> None:
    store = await stores.open()
    claim = await running(store)
    await store.write(claim, [NodeOutput(0, "a", 1, "ü" * 1_000_000)])

    taken = await store.claim("one", 60, claim.job)

    assert taken is not None
    assert len((await store.load(taken)).saved[0].outputs["a"]) == 1_000_000
