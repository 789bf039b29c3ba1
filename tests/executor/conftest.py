"""What several tests of this floor need."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from executor.store.sql import upgrade
from tests.executor.store_bodies import empty_database
from tests.executor.stub_openai import StubOpenAI


@pytest.fixture
async def stub_openai() -> AsyncIterator[StubOpenAI]:
    """An OpenAI-compatible server on a real socket that can be told to misbehave (see `stub_openai.py`)."""
    stub = StubOpenAI()
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture(scope="session")
def postgres_tables() -> Iterator[str]:
    """A PostgreSQL database with Halo's tables, made once: a test empties them, which is far quicker."""
    with asyncio.Runner() as runner:
        database = empty_database()
        url = runner.run(database.__aenter__())
        runner.run(upgrade(url))
        yield url
        runner.run(database.__aexit__(None, None, None))
