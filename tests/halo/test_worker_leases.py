"""Leases live as long as the process that holds them, and no longer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from executor.store.failures import StoreUnavailable
from executor.store.jobs import NewJob
from executor.store.port import Store
from executor.store.sql import open_store
from halo.leases import LeaseKeeper, LeaseTimes
from planner.ir.codec import encode
from planner.ir.expressions import Const
from planner.ir.ids import JobId
from planner.ir.plan import Plan

QUICK = LeaseTimes(lease_s=0.8, every_s=0.1, silent_s=0.4)
OWNER = "ada"


@pytest.fixture
def opener(tmp_path: Path) -> Callable[[], Awaitable[Store]]:
    return lambda: open_store(f"sqlite:///{tmp_path / 'halo.db'}")


async def _store_with_a_job(opener: Callable[[], Awaitable[Store]]) -> Store:
    store = await opener()
    await store.create_job(NewJob(JobId("j"), "w", encode(Plan("w", (), (), Const(1))), [{}]))
    return store


async def test_a_lease_outlives_itself_while_its_process_lives(opener: Callable[[], Awaitable[Store]]):
    store = await _store_with_a_job(opener)
    assert await store.claim(OWNER, QUICK.lease_s)
    async with LeaseKeeper(opener, OWNER, QUICK):
        await asyncio.sleep(1.5 * QUICK.lease_s)
        assert await store.claim("other", QUICK.lease_s) is None
    await store.close()


async def test_a_main_loop_that_is_blocked_for_a_moment_keeps_its_jobs(opener: Callable[[], Awaitable[Store]]):
    times = LeaseTimes(lease_s=0.8, every_s=0.1, silent_s=30)
    store = await _store_with_a_job(opener)
    assert await store.claim(OWNER, times.lease_s)
    async with LeaseKeeper(opener, OWNER, times):
        time.sleep(1.5 * times.lease_s)  # a tool that holds the loop
        assert await store.claim("other", times.lease_s) is None
    await store.close()


async def test_a_main_loop_that_is_silent_too_long_loses_its_jobs(opener: Callable[[], Awaitable[Store]]):
    store = await _store_with_a_job(opener)
    assert await store.claim(OWNER, QUICK.lease_s)
    async with LeaseKeeper(opener, OWNER, QUICK):
        time.sleep(QUICK.silent_s + QUICK.lease_s + 0.3)
        taken = await store.claim("other", QUICK.lease_s)
    assert taken is not None
    assert taken.attempt == 2
    await store.close()


async def test_nothing_is_renewed_after_the_end(opener: Callable[[], Awaitable[Store]]):
    store = await _store_with_a_job(opener)
    async with LeaseKeeper(opener, OWNER, QUICK):
        assert await store.claim(OWNER, QUICK.lease_s)
    await asyncio.sleep(QUICK.lease_s + 0.2)
    assert await store.claim("other", QUICK.lease_s)
    await store.close()


async def test_a_store_that_is_away_for_a_while_is_asked_again(opener: Callable[[], Awaitable[Store]]):
    opened = 0

    async def at_second_try() -> Store:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise StoreUnavailable("away")
        return await opener()

    store = await _store_with_a_job(opener)
    assert await store.claim(OWNER, QUICK.lease_s)
    async with LeaseKeeper(at_second_try, OWNER, QUICK):
        await asyncio.sleep(1.5 * QUICK.lease_s)
        assert await store.claim("other", QUICK.lease_s) is None
    assert opened == 2
    await store.close()


def test_a_lease_must_be_renewed_before_it_ends():
    with pytest.raises(AssertionError):
        LeaseTimes(lease_s=5, every_s=5)
