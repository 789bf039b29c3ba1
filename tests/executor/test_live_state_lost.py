"""Programs' live state is a hint: with it or without, in the middle of a run, the answers are the same."""

import asyncio
from collections.abc import Sequence

import pytest
from example_plans import RUN_SQL, output, user
from live_runs import scripted_fleet, submit

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.drivers.live_state import SAVE_EVERY_S
from executor.engines.answers import Answer, FromFunction
from executor.engines.port import GenerateRequest
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramState, StateUnavailable
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column
from planner.ir.ids import ProgramId, StageId
from planner.ir.plan import Agent, Input, Plan
from planner.ir.values import Json

PLAN = Plan(
    "look it up",
    (Input("q"),),
    (Agent(StageId("solve"), "small", user(Column("q")), (RUN_SQL,)),),
    output("solve", "text"),
)
ROWS: list[dict[str, Json]] = [{"q": f"question {number}"} for number in range(4)]


class Dying(MemoryStates):
    """Answers `lives` times, and then never again."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives, self.asked = lives, 0
        self.seen: list[ProgramState] = []

    async def save(self, states: Sequence[ProgramState]) -> None:
        self._ask()
        self.seen += states
        await super().save(states)

    async def forget(self, programs: Sequence[ProgramId]) -> None:
        self._ask()

    def _ask(self) -> None:
        self.asked += 1
        if self.asked > self.lives:
            raise StateUnavailable("gone")


def _answer(request: GenerateRequest) -> Answer:
    turns = sum(1 for message in request.messages if message["role"] == "tool")
    if turns < 2:
        return Answer("", (ToolCall(f"{request.call_id}-{turns}", RUN_SQL.name, "{}"),))
    return Answer(f"answer to {request.messages[0]['content']}")


@halo.tool(effect="idempotent")
async def run_sql() -> str:
    """Runs a SELECT."""
    await asyncio.sleep(1.5 * SAVE_EVERY_S)
    return "found"


@pytest.mark.parametrize("lives", [0, 1, 1000])
async def test_redis_lost_in_the_middle_of_a_run_changes_no_answer(lives: int) -> None:
    store, states = MemoryStore(), Dying(lives)
    job = await submit(store, PLAN, ROWS)
    engines, tools = scripted_fleet(FromFunction(_answer)), ToolRunner({RUN_SQL.name: run_sql})
    async with LiveDriver(engines, tools, store, states, WallClock(), None, None) as driver:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
    assert [row.result async for row in store.results(job)] == [f"answer to question {number}" for number in range(4)]
    assert states.asked > 1
    assert bool(states.seen) == bool(lives)
    if lives > 1:
        waiting = [state for state in states.seen if state.tool == RUN_SQL.name]
        assert {state.program for state in waiting} == {f"job/{row}" for row in range(4)}
        assert all(state.engine and state.context_tokens and state.sequence and state.turns for state in waiting)
