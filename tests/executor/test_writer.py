"""How writes are grouped: few commits when nobody waits, at once when somebody does or a crash would be dear."""

import asyncio
from collections.abc import Sequence

import pytest

from executor.clock import WallClock
from executor.drivers.writer import Writer
from executor.store.jobs import Claim
from executor.store.memory import MemoryStore
from executor.store.writes import NodeOutput, ToolBegun, Write
from planner.ir.ids import JobId

CLAIM = Claim(JobId("job"), 1)


class Recording(MemoryStore):
    """What reached the store, a list for each transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[Write]] = []

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        self.commits.append(list(writes))


@pytest.fixture
def store() -> Recording:
    return Recording()


def output(row: int, path: str = "answer") -> NodeOutput:
    return NodeOutput(row, path, 1, '"text"')


async def writer_after_a_commit(store: Recording, every_s: float) -> Writer:
    writer = Writer(store, WallClock(), lambda job: None, every_s)
    writer.add(CLAIM, output(0))
    await writer.flush(CLAIM)
    return writer


async def test_what_comes_shortly_after_a_commit_is_committed_together(store: Recording) -> None:
    writer = await writer_after_a_commit(store, every_s=3600)
    for row in (1, 2, 3):
        writer.add(CLAIM, output(row))
        await asyncio.sleep(0.01)
    assert len(store.commits) == 1
    await writer.close()
    assert store.commits[1:] == [[output(1), output(2), output(3)]]


async def test_what_nobody_waits_for_is_committed_after_a_while(store: Recording) -> None:
    writer = await writer_after_a_commit(store, every_s=0.05)
    writer.add(CLAIM, output(1))
    async with asyncio.timeout(60):
        while len(store.commits) == 1:
            await asyncio.sleep(0.01)
    assert store.commits[1:] == [[output(1)]]
    await writer.close()


async def test_nobody_who_waits_for_a_commit_waits_for_its_turn(store: Recording) -> None:
    writer = await writer_after_a_commit(store, every_s=3600)
    writer.add(CLAIM, output(1))
    await writer.flush(CLAIM)
    writer.add(CLAIM, output(2))
    await writer.close()
    assert store.commits[1:] == [[output(1)], [output(2)]]


async def test_what_an_unsafe_tool_gave_does_not_wait(store: Recording) -> None:
    writer = await writer_after_a_commit(store, every_s=3600)
    writer.add(CLAIM, output(1))
    writer.add(CLAIM, ToolBegun(2, "pay", 1))
    await asyncio.sleep(0.02)
    assert len(store.commits) == 1
    writer.add(CLAIM, output(2, "pay"))
    while len(store.commits) == 1:
        await asyncio.sleep(0.01)
    assert store.commits[1:] == [[output(1), ToolBegun(2, "pay", 1), output(2, "pay")]]
    await writer.close()
