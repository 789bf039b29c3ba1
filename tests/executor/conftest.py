"""What several tests of this floor need."""

from collections.abc import AsyncIterator

import pytest

from tests.executor.stub_openai import StubOpenAI


@pytest.fixture
async def stub_openai() -> AsyncIterator[StubOpenAI]:
    """An OpenAI-compatible server on a real socket that can be told to misbehave (see `stub_openai.py`)."""
    stub = StubOpenAI()
    await stub.start()
    yield stub
    await stub.stop()
