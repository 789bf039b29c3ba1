"""What may go on goes on: a call does not wait for the commit of the one before it."""

import asyncio
from collections.abc import Sequence

from live_runs import MODELS, run_live

import halo
from executor.commands import Status
from executor.engines.port import Completion, EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.jobs import Claim
from executor.store.memory import MemoryStore
from executor.store.writes import Write
from planner.ir.ids import EngineId

CALLS = 4


@halo.llm(model="small", max_tokens=16)
def ask(text: str) -> str:
    return f"Say something about {text}"


@halo.workflow
def chain(text: str) -> str:
    for _ in range(CALLS):
        text = ask(text)
    return text


class Counting(Scripted):
    """Tells when it was asked the last call of the chain."""

    def __init__(self, last_asked: asyncio.Event) -> None:
        super().__init__(EngineSpec(EngineId("one"), "scripted", MODELS), Synthetic())
        self._last_asked, self._asked = last_asked, 0

    async def generate(self, request: GenerateRequest) -> Completion:
        self._asked += 1
        if self._asked == CALLS:
            self._last_asked.set()
        return await super().generate(request)


class Waiting(MemoryStore):
    """Commits nothing before the last call of the chain was asked."""

    def __init__(self, last_asked: asyncio.Event) -> None:
        super().__init__()
        self._last_asked = last_asked

    async def write(self, claim: Claim, writes: Sequence[Write]) -> None:
        await self._last_asked.wait()
        await super().write(claim, writes)


async def test_a_chain_goes_on_while_nothing_of_it_is_committed() -> None:
    last_asked = asyncio.Event()
    async with asyncio.timeout(60):
        status, (row,), _ = await run_live(
            chain.plan, [{"text": "tea"}], engines=[Counting(last_asked)], store=Waiting(last_asked)
        )
    assert (status, row.status) == (Status.SUCCEEDED, Status.SUCCEEDED)
