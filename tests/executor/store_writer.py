"""A process that writes groups of nodes as fast as it can, and says which are committed, until it is killed."""

import asyncio
import sys

from executor.commands import Status
from executor.store.jobs import NewJob
from executor.store.sql import open_store
from executor.store.writes import NodeOutput, ProgramEnded
from planner.ir.ids import JobId

GROUP = 20


async def main(url: str) -> None:
    store = await open_store(url)
    await store.create_job(NewJob(JobId("job"), "w", "{}", [{"n": row} for row in range(20_000)]))
    claim = await store.claim("victim", 0)
    assert claim is not None
    for first in range(0, 20_000, GROUP):
        rows = range(first, first + GROUP)
        outputs = [NodeOutput(row, "a", 1, str(row)) for row in rows]
        await store.write(claim, [*outputs, *(ProgramEnded(row, Status.SUCCEEDED, str(row)) for row in rows)])
        print(first + GROUP, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
