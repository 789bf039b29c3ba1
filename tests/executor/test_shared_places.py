"""Jobs and the door share the calls that an engine takes at once."""

import asyncio
from collections.abc import Mapping

from example_plans import generate, output
from hypothesis import given
from hypothesis import strategies as st
from live_runs import submit

from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.door import Asked, Door
from executor.drivers.live import LiveDriver
from executor.drivers.places import SharedPlaces
from executor.engines.port import Completion, EngineHealth, EngineSpec, GenerateRequest, Usage
from executor.engines.upstream_engine import EngineUpstream
from executor.policy.places import Kind, left_to
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.expressions import Column
from planner.ir.ids import EngineId
from planner.ir.plan import Input, Plan

PLAN = Plan("ask", (Input("q"),), (generate("answer", Column("q")),), output("answer"))
SPEC = EngineSpec(EngineId("a"), "scripted", ("small",), max_running=4)


@given(st.sampled_from(Kind), st.integers(0, 100), st.integers(1, 100), st.booleans())
def test_nobody_is_left_less_than_the_others_have_or_more_than_there_is(
    kind: Kind, inside: int, most: int, wants: bool
) -> None:
    left = left_to(kind, inside, most, wants=wants)
    assert min(inside, most) <= left <= most


@given(st.integers(1, 100))
def test_where_both_want_more_the_halves_are_all_there_is(most: int) -> None:
    assert left_to(Kind.JOBS, 0, most, wants=True) + left_to(Kind.DOOR, 0, most, wants=True) == most


class Crowded:
    """Remembers how full it was, and of whom."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.inside: dict[str, int] = {"jobs": 0, "door": 0}
        self.most, self.seen = 0, set[tuple[int, int]]()

    async def generate(self, request: GenerateRequest) -> Completion:
        side = "door" if request.program.startswith("team/") else "jobs"
        self.inside[side] += 1
        self.most = max(self.most, sum(self.inside.values()))
        self.seen.add((self.inside["jobs"], self.inside["door"]))
        try:
            await asyncio.sleep(0.02)
        finally:
            self.inside[side] -= 1
        return Completion("yes", Usage(1, 1))

    async def probe(self) -> EngineHealth:
        return EngineHealth(ready=True)

    async def close(self) -> None:
        pass


class Reader:
    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    async def write(self, part: bytes) -> None:
        pass


async def test_together_they_take_no_more_than_there_is_and_neither_waits_for_the_other_to_end() -> None:
    engine, store, states, clock = Crowded(), MemoryStore(), MemoryStates(), WallClock()
    places, tools = SharedPlaces([SPEC]), ToolRunner({})
    job = await submit(store, PLAN, [{"q": f"q{number}"} for number in range(60)])
    asked = Asked(
        "team", "/v1/chat/completions", {"model": "small", "messages": [{"role": "user", "content": "hi"}]}, {}
    )
    driver = LiveDriver([engine], tools, store, states, clock, places=places)
    door = Door([engine], {SPEC.id: EngineUpstream(engine)}, states, clock, places=places)
    async with driver, door:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        async with asyncio.timeout(60):
            while engine.inside["jobs"] < 4:  # all places, while nobody else wants one
                await asyncio.sleep(0.005)
        await asyncio.gather(*(door.answer(asked, Reader()) for _ in range(20)))
        assert not running.done()
        assert await running is Status.SUCCEEDED
    await tools.close()
    assert engine.most == 4
    assert (2, 2) in engine.seen
