"""What every body of live program state promises."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from patience import at_some_pace

from kvstore.memory_state import MemoryStates
from kvstore.program_state import MOST_LENGTHS, ProgramState, ProgramStates
from kvstore.redis_state import RedisStates
from planner.ir.ids import EngineId, ProgramId

STATE = ProgramState(
    ProgramId("job/0"),
    7,
    "solve#3/1",
    "tool",
    since=1753000000.25,
    engine=EngineId("e1"),
    turns=4,
    attained_tokens=1200,
    sequence=1_753_000_000_123,
    context_tokens=3000,
    until=1753000002.5,
    tool="bash",
    tool_arguments="pytest",
)
#: A clock's nanoseconds, where a double can no longer tell one from the next.
LATE = 1_753_000_000_000_000_001


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def replica(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], ProgramStates]]:
    """Makes another process's view of one and the same place; a single process has only its own."""
    if request.param == "memory":
        alone = MemoryStates()
        yield lambda: alone
        return
    url = os.environ.get("HALO_TEST_REDIS_URL") or pytest.skip("HALO_TEST_REDIS_URL is not set")
    namespace, opened = f"test-{uuid.uuid4().hex}", list[RedisStates]()

    def another() -> ProgramStates:
        opened.append(RedisStates(url, namespace, timeout_s=60.0))
        return opened[-1]

    yield another
    for states in opened:
        await states.close()


@pytest.fixture
async def states(replica: Callable[[], ProgramStates]) -> ProgramStates:
    return replica()


async def listening(states: ProgramStates) -> ProgramStates:
    """Whoever begins to listen may be told once that there may be work: that is behind it."""
    await states.wake()
    assert await states.wait_for_wake(60)
    return states


async def test_what_is_saved_is_seen_by_all(replica: Callable[[], ProgramStates]) -> None:
    bare = ProgramState(ProgramId("job/\ud800"), 1, "", "", 0.0)
    await replica().save([STATE, bare])

    seen = replica()

    assert await seen.load(STATE.program) == STATE
    assert await seen.load(bare.program) == bare
    assert await seen.load(ProgramId("job/2")) is None


@pytest.mark.parametrize("version", [7, LATE])
async def test_an_older_state_never_overwrites_a_newer(states: ProgramStates, version: int) -> None:
    new = replace(STATE, version=version)
    await states.save([new])

    await states.save(
        [replace(STATE, version=version - 1, doing="old"), replace(STATE, version=version, doing="again")]
    )
    assert await states.load(STATE.program) == new

    newer = replace(STATE, version=version + 1, doing="call", engine=None)
    await states.save([newer])
    assert await states.load(STATE.program) == newer


async def test_of_many_states_of_one_program_saved_at_once_the_newest_stays(states: ProgramStates) -> None:
    await states.save([replace(STATE, version=version) for version in (2, 10, 9)])

    loaded = await states.load(STATE.program)

    assert loaded is not None
    assert loaded.version == 10


async def test_states_by_the_thousand(states: ProgramStates) -> None:
    many = [replace(STATE, program=ProgramId(f"job/{row}"), turns=row) for row in range(1201)]
    await states.save(many)

    assert [await states.load(state.program) for state in (many[0], many[600], many[1200])] == [
        many[0],
        many[600],
        many[1200],
    ]
    await states.forget([state.program for state in many])
    assert [await states.load(state.program) for state in (many[0], many[1200])] == [None, None]


async def test_a_turn_is_found_by_its_name_from_everywhere(replica: Callable[[], ProgramStates]) -> None:
    ada, bob = ProgramId("team/ada\ud800"), ProgramId("team/bob")
    await replica().name_turns([("ada-1", ada), ("ada-2", ada), ("both", bob), ("both", ada)])

    seen = replica()

    assert await seen.program_of_turn(["nobody", "ada-2", "bob"]) == ada
    assert await seen.program_of_turn(["both"]) == ada
    assert await seen.program_of_turn(["nobody"]) is None
    assert await seen.program_of_turn([]) is None
    await seen.name_turns([])


async def test_how_long_texts_of_a_beginning_were_is_known_from_everywhere(
    replica: Callable[[], ProgramStates],
) -> None:
    await replica().note_texts([("a", 5), ("b", 9), ("a", 7), ("a", 5)])

    seen = replica()

    assert sorted(await seen.text_lengths(["nobody", "a", "b"])) == [5, 7, 9]
    assert list(await seen.text_lengths(["nobody"])) == list(await seen.text_lengths([])) == []
    await seen.note_texts([])
    await seen.note_texts([("a", 100 + more) for more in range(MOST_LENGTHS - 1)])
    assert sorted(await seen.text_lengths(["a"])) == [5, *range(100, 99 + MOST_LENGTHS)]


async def test_nothing_saved_and_nothing_forgotten_is_nothing(states: ProgramStates) -> None:
    await states.save([])
    await states.forget([])
    await states.forget([STATE.program])


async def test_a_wake_is_heard_while_waiting(replica: Callable[[], ProgramStates]) -> None:
    sleeper = await listening(replica())
    waiting = asyncio.create_task(sleeper.wait_for_wake(60))
    await asyncio.sleep(0.01)

    await replica().wake()

    assert await waiting


async def test_wakes_between_two_waits_are_heard_as_one(replica: Callable[[], ProgramStates]) -> None:
    sleeper, wakers = await listening(replica()), [replica() for _ in range(3)]

    async def story(pace: float) -> None:
        for waker in wakers:
            await waker.wake()
        await asyncio.sleep(0.05 * pace)
        heard = [await sleeper.wait_for_wake(0.05) for _ in range(4)]
        assert heard == [True, False, False, False]

    await at_some_pace(story)


async def test_without_a_wake_the_time_runs_out(states: ProgramStates) -> None:
    await listening(states)

    assert not await states.wait_for_wake(0.02)
    assert not await states.wait_for_wake(0)


async def test_it_answers_a_ping_and_may_be_closed_twice(states: ProgramStates) -> None:
    await states.ping()
    await states.wait_for_wake(0.01)
    await states.close()
    await states.close()
