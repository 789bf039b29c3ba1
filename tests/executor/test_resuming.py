"""A program whose process died goes on in another one: in its place, and where its KV is. Without its state, it only
goes on."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_line import AGENT, AgentLine, grows
from example_plans import RUN_SQL, output, user
from live_runs import submit

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.drivers.live_state import SAVE_EVERY_S
from executor.engines.answers import Answer, FromFunction
from executor.engines.port import Engine, EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.events import BatchPlanned, Before, JobSubmitted, Recovered
from executor.prompt_blocks import BLOCK_TOKENS
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramState, ProgramStates, StateUnavailable
from kvstore.redis_state import RedisStates
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId, ProgramId, StageId
from planner.ir.plan import Agent, Input, Plan
from planner.ir.values import Json

A, B = EngineId("a"), EngineId("b")
FLEET = [EngineSpec(name, "scripted", ("small",), gpu="A100", max_running=1) for name in (A, B)]
TURN_DONE = {"solve#0": ("lookup",), "solve#0/0": ()}


def resumed(recovered: Mapping[int, Recovered], rows: int, *fleet: EngineSpec) -> AgentLine:
    line = AgentLine(grows(shared=0, own=50), *(fleet or FLEET))
    plan = Plan("p", (Input("q"),), (AGENT,), Const(1))
    line.tell(JobSubmitted(0.0, JobId("j"), plan, rows, recovered=recovered))
    line.tell(BatchPlanned(0.0, JobId("j"), plan, range(rows), {}))
    return line


def was(sequence: int = 1, **more: Any) -> Recovered:
    given = {"engine": B, "turns": 1, "context_tokens": 50 * BLOCK_TOKENS, **more}
    return Recovered(TURN_DONE, before=Before("solve#0/0", sequence=sequence, **given))


def test_the_next_turn_goes_where_the_last_one_was() -> None:
    assert resumed({0: Recovered(TURN_DONE)}, 1).sent[0].engine == A
    (sent,) = resumed({0: was()}, 1).sent
    assert (sent.engine, sent.node.path) == (B, "solve#1")
    assert "of 1,600 prompt tokens warm" in sent.reason


def test_its_turns_and_its_service_count_on() -> None:
    line = resumed({0: was(attained_tokens=700)}, 1)
    assert (line.saved[-1].turns, line.saved[-1].attained_tokens) == (1, 700)


@pytest.mark.parametrize(
    "before",
    [
        Before("other#0", B, 1, context_tokens=1600),
        Before("solve#0/0", EngineId("gone"), 1, context_tokens=1600),
        Before("solve#0/0", None, 1),
    ],
    ids=["another agent", "an engine that is no more", "no engine"],
)
def test_what_says_nothing_of_the_agent_changes_nothing(before: Before) -> None:
    assert resumed({0: Recovered(TURN_DONE, before=before)}, 1).sent[0].engine == A


def test_programs_that_had_begun_go_first_in_the_order_in_which_they_did() -> None:
    recovered = {1: was(sequence=9), 3: was(sequence=4), 4: Recovered(TURN_DONE)}
    line = resumed(recovered, 6, FLEET[1])
    while line.inside:
        line.answer(next(iter(line.inside)), last=True)
    order = [sent.node.program for sent in line.sent]
    assert order == ["j/3", "j/1", "j/4", "j/0", "j/2", "j/5"]


# --- live, through the store and the state


PLAN = Plan(
    "look it up",
    (Input("q"),),
    (Agent(StageId("solve"), "small", user(Column("q")), (RUN_SQL,)),),
    output("solve", "text"),
)
QUESTION: list[dict[str, Json]] = [{"q": "why? " * 400}]


class Lost(MemoryStates):
    async def load(self, program: ProgramId) -> ProgramState | None:
        raise StateUnavailable("gone")

    async def save(self, states: Sequence[ProgramState]) -> None:
        raise StateUnavailable("gone")


@asynccontextmanager
async def states_of(kind: str) -> AsyncIterator[ProgramStates]:
    if kind == "redis":
        url = os.environ.get("HALO_TEST_REDIS_URL") or pytest.skip("HALO_TEST_REDIS_URL is not set")
        states: ProgramStates = RedisStates(url, namespace=f"test-{uuid.uuid4().hex}", timeout_s=60.0)
    else:
        states = {"memory": MemoryStates, "lost": Lost}[kind]()
    yield states
    await states.close()


class Fleet:
    """Two engines that answer alike, and who was asked."""

    def __init__(self) -> None:
        self.asked: list[EngineId] = []
        self.left, self.right = (self._engine(spec) for spec in FLEET)

    def _engine(self, spec: EngineSpec) -> Engine:
        def answer(request: GenerateRequest) -> Answer:
            self.asked.append(spec.id)
            turns = sum(1 for message in request.messages if message["role"] == "tool")
            return Answer("", (ToolCall(f"c{turns}", RUN_SQL.name, "{}"),)) if turns < 2 else Answer("because")

        return Scripted(spec, FromFunction(answer))


@pytest.mark.parametrize("kind", ["memory", "redis", "lost"])
async def test_another_process_takes_an_agent_over_with_its_state_or_without(kind: str) -> None:
    store, begun, goes_on, fleet = MemoryStore(), asyncio.Event(), asyncio.Event(), Fleet()
    job = await submit(store, PLAN, QUESTION)

    @halo.tool(effect="idempotent")
    async def run_sql() -> str:
        """Runs a SELECT; in the first process it does not come back."""
        begun.set()
        await goes_on.wait()
        return "found"

    async with states_of(kind) as states:
        tools = ToolRunner({RUN_SQL.name: run_sql})
        async with LiveDriver([fleet.right], tools, store, states, WallClock()) as first:
            claim = await store.claim("one", 60.0, job)
            assert claim is not None
            running = asyncio.create_task(first.run(claim))
            async with asyncio.timeout(60):
                await begun.wait()
                while kind != "lost" and not await _is_saved(states):
                    await asyncio.sleep(SAVE_EVERY_S)
        running.cancel()
        goes_on.set()
        async with LiveDriver([fleet.left, fleet.right], tools, store, states, WallClock()) as second:
            claim = await store.claim("two", 60.0, job)
            assert claim is not None
            assert await second.run(claim) is Status.SUCCEEDED
        await tools.close()
    assert [row.result async for row in store.results(job)] == ["because"]
    assert fleet.asked[0] == B
    assert fleet.asked[1] == (A if kind == "lost" else B)


async def _is_saved(states: ProgramStates) -> bool:
    """That its first tool runs."""
    state = await states.load(ProgramId("job/0"))
    return state is not None and state.tool == RUN_SQL.name
