"""Leases live as long as the process that holds them, and no longer."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from executor.store.failures import StoreUnavailable
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.store.port import Store
from executor.store.sql import open_store
from halo.leases import LeaseKeeper, LeaseTimes
from planner.ir.codec import encode
from planner.ir.expressions import Const
from planner.ir.ids import JobId
from planner.ir.plan import Plan

TIMES = LeaseTimes(lease_s=0.8, every_s=0.02, silent_s=0.4)
OWNER = "ada"


class Hands:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.at, self.asked = 0.0, 0

    def now(self) -> float:
        self.asked += 1
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Leased(MemoryStore):
    """Counts what was renewed. Both threads of a process know it."""

    def __init__(self, hands: Hands) -> None:
        super().__init__(hands)
        self.renewals = 0

    async def renew(self, owner: str, lease_s: float) -> list[JobId]:
        held = await super().renew(owner, lease_s)
        self.renewals += 1
        return held

    async def passes(self, seconds: float, hands: Hands) -> None:
        """So much time, until a renewal has begun and ended after it."""
        hands.at += seconds
        enough = self.renewals + 2
        async with asyncio.timeout(60):
            while self.renewals < enough:
                await asyncio.sleep(0.005)

    async def is_taken(self) -> bool:
        return await self.claim("other", TIMES.lease_s) is not None


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def store(hands: Hands) -> Leased:
    """With a job that `OWNER` holds."""
    store = Leased(hands)
    await _with_a_job(store)
    return store


async def _with_a_job(store: Store) -> None:
    await store.create_job(NewJob(JobId("j"), "w", encode(Plan("w", (), (), Const(1))), [{}]))
    assert await store.claim(OWNER, TIMES.lease_s)


def opener(store: Store) -> Callable[[], Awaitable[Store]]:
    async def opened() -> Store:
        return store

    return opened


def blocked(passed: Callable[[], bool]) -> None:
    """Holds the loop, as a tool may, while the thread of the keeper goes on."""
    deadline = time.monotonic() + 60
    while not passed():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_lease_outlives_itself_while_its_process_lives(store: Leased, hands: Hands):
    async with LeaseKeeper(opener(store), OWNER, TIMES, hands.now):
        for _ in range(4):
            await store.passes(0.75 * TIMES.lease_s, hands)
        assert not await store.is_taken()


async def test_a_main_loop_that_is_blocked_for_a_moment_keeps_its_jobs(store: Leased, hands: Hands):
    times = replace(TIMES, silent_s=30)
    async with LeaseKeeper(opener(store), OWNER, times, hands.now):
        for _ in range(2):
            hands.at += 0.75 * times.lease_s
            enough = store.renewals + 2
            blocked(lambda enough=enough: store.renewals >= enough)
        assert not await store.is_taken()


async def test_a_main_loop_that_is_silent_too_long_loses_its_jobs(store: Leased, hands: Hands):
    async with LeaseKeeper(opener(store), OWNER, TIMES, hands.now):
        hands.at += TIMES.silent_s + 0.1
        enough = hands.asked + 2  # the keeper alone asks for the time: what it looked at before has been done then
        blocked(lambda: hands.asked >= enough)
        hands.at += TIMES.lease_s + 0.1
        taken = await store.claim("other", TIMES.lease_s)
    assert taken is not None
    assert taken.attempt == 2


async def test_nothing_is_renewed_after_the_end(store: Leased, hands: Hands):
    async with LeaseKeeper(opener(store), OWNER, TIMES, hands.now):
        await store.passes(0.0, hands)
    hands.at += TIMES.lease_s
    assert await store.is_taken()


async def test_a_store_that_is_away_for_a_while_is_asked_again(store: Leased, hands: Hands):
    opened = 0

    async def at_second_try() -> Store:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise StoreUnavailable("away")
        return store

    async with LeaseKeeper(at_second_try, OWNER, TIMES, hands.now):
        for _ in range(2):
            await store.passes(0.75 * TIMES.lease_s, hands)
        assert not await store.is_taken()
    assert opened == 2


async def test_it_renews_by_a_connection_of_its_own(tmp_path: Path):
    """A lease that ended long ago is good again when it was renewed."""
    url = f"sqlite:///{tmp_path / 'halo.db'}"
    store = await open_store(url)
    await store.create_job(NewJob(JobId("j"), "w", encode(Plan("w", (), (), Const(1))), [{}]))
    assert await store.claim(OWNER, 0)
    async with LeaseKeeper(lambda: open_store(url), OWNER, LeaseTimes(lease_s=600, every_s=0.1, silent_s=600)):
        async with asyncio.timeout(60):
            while not await _is_held(tmp_path / "halo.db"):
                await asyncio.sleep(0.01)
        assert await store.claim("other", 600) is None
    await store.close()


async def _is_held(file: Path) -> bool:
    def looked() -> bool:
        with closing(sqlite3.connect(file, timeout=60)) as database:
            (until,) = database.execute("SELECT lease_until FROM jobs").fetchone()
        return bool(until > time.time() + 60)

    return await asyncio.to_thread(looked)


def test_a_lease_must_be_renewed_before_it_ends():
    with pytest.raises(AssertionError):
        LeaseTimes(lease_s=5, every_s=5)
