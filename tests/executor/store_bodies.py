"""The bodies of the store port, each with somewhere fresh to keep its data, for the tests that run on all of them."""

import os
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from executor.store.memory import MemoryStore
from executor.store.result_cache import CachingStore
from executor.store.sql import open_store

TABLES = "plans, jobs, programs, nodes, events, cached_results, drained_engines"
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


class Stores:
    """One place where data is kept, and every store opened on it: `open` is another process coming along.

    Writers wait for each other for as long as it takes: on a machine that stalls, too.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._memory = MemoryStore()
        self._opened: list[CachingStore] = []

    async def open(self, **options: Any) -> CachingStore:
        store = self._memory if self.url is None else await open_store(self.url, **{"lock_wait_s": 300.0} | options)
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


def store_url(request: pytest.FixtureRequest, folder: Path) -> str | None:
    """Where the body that the fixture's parameter names keeps its data; nowhere for `memory`."""
    if request.param == "memory":
        return None
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'halo.db'}"
    url: str = request.getfixturevalue("postgres_tables")
    return url


@asynccontextmanager
async def fresh_stores(url: str | None) -> AsyncIterator[Stores]:
    """Stores with nothing in them."""
    if url is not None and url.startswith("postgresql"):
        await administer(url, f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
    stores = Stores(url)
    try:
        yield stores
    finally:
        await stores.close()


@asynccontextmanager
async def empty_database() -> AsyncIterator[str]:
    """A PostgreSQL database of its own, without tables. Skips where there is no server."""
    server = os.environ.get("HALO_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("HALO_TEST_POSTGRES_URL is not set: run under scripts/test_services.py")
    name = f"halo_test_{uuid.uuid4().hex}"
    await administer(server, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        await administer(server, f"DROP DATABASE {name} WITH (FORCE)")


async def administer(url: str, statement: str) -> None:
    """Runs a statement behind the store's back."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.execute(statement)
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
