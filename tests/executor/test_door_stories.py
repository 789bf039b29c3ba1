"""The door's core: given these events, these commands."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from executor.commands import CallMeAt, WatchEngine
from executor.door.commands import DoorCommand, KeepState, NameTurn, Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.turns import answered_talk, talk_of
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.events import EngineBack, EngineLost, WakeUp
from executor.policy.fairness import TenantShare
from executor.prompt_blocks import BLOCK_TOKENS
from halo_vllm.policy.tools import ToolKey
from kvstore.program_state import ProgramState
from planner.ir.ids import EngineId, ProgramId

A, B = EngineId("a"), EngineId("b")
DIED = Failure(FailureClass.ENGINE_DIED, "engine_died", "the connection broke")
BROKEN = Failure(FailureClass.ENGINE, "engine_error", "the engine answered 500")
ADA, BOB = ProgramId("team/ada"), ProgramId("team/bob")


def engine(id: EngineId = A, max_running: int = 1, **more: Any) -> EngineSpec:
    return EngineSpec(id, "vllm", ("m",), url="http://engine", max_running=max_running, **more)


class Story:
    """A core, and a clock that only the story moves."""

    def __init__(self, *engines: EngineSpec, **limits: Any) -> None:
        self.core = DoorCore(engines or (engine(),), DoorLimits(**limits))
        self.now = 1000.0
        self.numbers: Iterator[int] = count(1)

    def handle(self, event: DoorEvent) -> list[DoorCommand]:
        return self.core.handle(event)

    def arrives(self, program: ProgramId | None = None, **more: Any) -> tuple[int, list[DoorCommand]]:
        self.now += 0.001
        number = next(self.numbers)
        fresh = ProgramId(f"team/fresh-{number}")
        given: dict[str, Any] = {"tenant": "team", "model": "m", "prompt_tokens": 100, **more}
        return number, self.handle(CallArrived(self.now, number, fresh=fresh, named=program, **given))

    def call(self, program: ProgramId | None = None, **more: Any) -> int:
        return self.arrives(program, **more)[0]

    def answered(self, call: int, **more: Any) -> list[DoorCommand]:
        self.now += 1
        return self.handle(CallAnswered(self.now, call, more.pop("usage", Usage(100, 10)), **more))


def sent(commands: list[DoorCommand]) -> list[tuple[int, EngineId]]:
    return [(one.call, one.engine) for one in commands if isinstance(one, Send)]


def states(commands: list[DoorCommand]) -> list[ProgramState]:
    return [one.state for one in commands if isinstance(one, KeepState)]


def refused(commands: list[DoorCommand]) -> list[tuple[int, str]]:
    return [(one.call, one.failure.code) for one in commands if isinstance(one, Refuse)]


def test_a_call_goes_to_the_engine_at_once_where_there_is_room() -> None:
    story = Story()
    number, commands = story.arrives(ADA)
    assert sent(commands) == [(number, A)]
    assert [(state.program, state.doing) for state in states(commands)] == [(ADA, "call")]


def test_the_next_turn_of_an_earlier_program_goes_before_strangers_that_came_earlier() -> None:
    story = Story()
    first = story.call(ADA)
    strangers = [story.call() for _ in range(3)]
    assert sent(story.answered(first)) == [(strangers[0], A)]
    turn = story.call(ADA)
    assert sent(story.answered(strangers[0])) == [(turn, A)]
    assert sent(story.answered(turn)) == [(strangers[1], A)]


def test_programs_have_strictly_increasing_places_though_they_come_at_one_instant() -> None:
    story = Story(engine(max_running=9))
    sequences = []
    for number in range(5):
        event = CallArrived(1.0, number, "team", "m", ProgramId(f"p{number}"))
        sequences += [one.sequence for one in story.handle(event) if isinstance(one, Send)]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 5


def test_a_program_goes_where_its_kv_is() -> None:
    blocks = tuple(range(100))
    story = Story(engine(A, 4), engine(B, 4))
    first = story.call(ADA, prefix=blocks, prompt_tokens=3200)
    other = story.call(BOB, prefix=tuple(range(500, 600)), prompt_tokens=3200)
    assert (story.core.programs.enter(ADA, 0, None).engine, story.core.programs.enter(BOB, 0, None).engine) == (A, B)
    story.answered(first)
    story.answered(other)
    for program, prefix, home in ((BOB, tuple(range(500, 610)), B), (ADA, tuple(range(110)), A)):
        number, commands = story.arrives(program, prefix=prefix, prompt_tokens=3520)
        assert sent(commands) == [(number, home)]


def test_it_rather_waits_for_its_engine_than_be_computed_anew_and_no_later_call_takes_the_room() -> None:
    mine, long = tuple(range(900)), tuple(range(2000, 2900))
    story = Story(engine(A), engine(B))
    first = story.call(ADA, prefix=mine, prompt_tokens=28_800)
    busy = story.call(BOB, prefix=long, prompt_tokens=28_800)
    story.answered(first)
    short = story.call(prompt_tokens=10)  # takes the room on A
    turn, commands = story.arrives(ADA, prefix=mine, prompt_tokens=28_800)
    assert sent(commands) == []
    stranger, commands = story.arrives(prompt_tokens=10)
    assert sent(commands) == []
    assert sent(story.answered(short)) == [(turn, A)]
    assert sent(story.answered(busy)) == [(stranger, B)]


def test_nobody_is_passed_over_for_ever() -> None:
    story = Story(most_passes=5)
    running = story.call(ADA)
    stranger, waited = story.call(), 0
    for _ in range(10):
        waited += 1
        turn = story.call(ADA)
        (running, _), *_ = sent(story.answered(running))
        if running == stranger:
            break
        assert running == turn
    assert running == stranger
    assert waited == 6


def _served_in_turn(story: Story, running: int, calls: int, whose: dict[int, str]) -> list[str]:
    """Whose calls were sent, one after the other, on an engine that has room for one."""
    served = []
    for _ in range(calls):
        ((running, _),) = sent(story.answered(running, usage=Usage(4000, 500)))
        served.append(whose[running])
    return served


def test_a_tenant_that_floods_the_door_takes_turns_with_the_others() -> None:
    story = Story(most_passes=4)
    running = story.call(tenant="flood")
    whose = {story.call(tenant="flood"): "flood" for _ in range(100)}
    whose |= {story.call(tenant="ann"): "ann" for _ in range(20)}
    served = _served_in_turn(story, running, 40, whose)
    assert 18 <= served.count("ann") <= 20
    assert "ann" in served[: len(served) // 2]


def test_a_small_call_waits_for_few_small_calls_of_who_floods_the_door() -> None:
    story = Story(*[engine(A, 4), *(replace(engine(EngineId(f"other-{n}")), models=("other",)) for n in range(3))])
    running, *_ = [story.call(tenant="flood", prompt_tokens=10) for _ in range(500)]
    ann = story.call(tenant="ann", prompt_tokens=10)
    waited = 0
    while running != ann:
        ((running, _),) = sent(story.answered(running, usage=Usage(10, 5)))
        waited += 1
    assert waited <= 40


def test_tenants_have_the_engine_by_their_weights() -> None:
    story = Story(tenants={"ann": TenantShare(weight=3.0)})
    running = story.call(tenant="bob")
    whose = {story.call(tenant="bob"): "bob" for _ in range(200)}
    whose |= {story.call(tenant="ann"): "ann" for _ in range(200)}
    served = _served_in_turn(story, running, 200, whose)
    assert served.count("ann") / served.count("bob") == pytest.approx(3.0, rel=0.2)


def test_a_tenant_whose_calls_all_ended_without_an_answer_is_not_ahead_for_that() -> None:
    story = Story()
    running = story.call(tenant="gone")
    for _ in range(50):
        left = story.call(tenant="gone")
        story.handle(CallGone(story.now, running))
        running = left
    whose = {story.call(tenant="gone"): "gone" for _ in range(20)}
    whose |= {story.call(tenant="ann"): "ann" for _ in range(20)}
    assert _served_in_turn(story, running, 4, whose)[:2] != ["gone", "gone"]


def test_what_waits_is_bounded_for_each_tenant_and_the_refusal_says_when_to_come_again() -> None:
    story = Story(waiting=2)
    for _ in range(3):
        story.call()
    number, commands = story.arrives()
    assert refused(commands) == [(number, "queue_full")]
    (refusal,) = [one for one in commands if isinstance(one, Refuse)]
    assert refusal.failure.retry_after_s is not None
    assert refusal.failure.retry_after_s >= 1
    assert refused(story.arrives(tenant="other")[1]) == []


def test_a_model_nobody_serves_is_refused_at_once() -> None:
    assert [code for _, code in refused(Story().arrives(model="none")[1])] == ["model_unknown"]


def test_a_conversation_is_known_by_what_was_said() -> None:
    story = Story()
    said = talk_of("team", [{"role": "user", "content": "hello"}])
    first, commands = story.arrives(said=said)
    (state,) = states(commands)
    answer = {"role": "assistant", "content": "hi"}
    commands = story.answered(first, said=answered_talk(said, answer))
    assert [one.program for one in commands if isinstance(one, NameTurn)] == [state.program]
    longer = talk_of("team", [{"role": "user", "content": "hello"}, answer, {"role": "user", "content": "and now?"}])
    assert {one.program for one in states(story.arrives(said=longer)[1])} == {state.program}
    strange = talk_of("other", [{"role": "user", "content": "hello"}, answer, {"role": "user", "content": "and now?"}])
    assert story.arrives(said=strange, tenant="other")[1] == []
    assert len({call.program.id for call in story.core.line}) == 1
    assert state.program not in {call.program.id for call in story.core.line}


def test_after_a_while_a_conversation_is_forgotten() -> None:
    story = Story(idle_s=60.0)
    said = talk_of("team", [{"role": "user", "content": "hello"}])
    answer = {"role": "assistant", "content": "hi"}
    story.answered(story.call(said=said), said=answered_talk(said, answer))
    story.now += 61
    longer = talk_of("team", [{"role": "user", "content": "hello"}, answer, {"role": "user", "content": "more"}])
    number, commands = story.arrives(said=longer)
    assert {state.program for state in states(commands)} == {f"team/fresh-{number}"}


def test_between_turns_the_state_says_which_tool_runs_where_the_kv_is_and_until_when() -> None:
    story = Story(engine(kv_tokens=50_000))
    commands = story.answered(story.call(ADA), usage=Usage(100, 20, 60), tools=(ToolKey("bash", "pytest"),))
    (state,) = states(commands)
    assert (state.doing, state.tool, state.tool_arguments, state.since) == ("tool", "bash", "pytest", story.now)
    assert (state.engine, state.turns, state.context_tokens, state.attained_tokens) == (A, 1, 120, 60)
    assert state.until is not None
    assert state.until > story.now


def test_another_replica_takes_the_next_turn_and_keeps_place_and_engine() -> None:
    blocks = tuple(range(100))
    here, there = Story(engine(A, 4), engine(B, 4)), Story(engine(A, 4), engine(B, 4))
    for story in (here, there):
        story.call(prompt_tokens=5000)  # so that B is the emptier one
    first = here.call(ADA, prefix=blocks, prompt_tokens=3200)
    (state,) = states(here.answered(first, usage=Usage(3200, 10)))
    assert state.engine == B
    there.call(prompt_tokens=4000)
    commands = there.arrives(ADA, prefix=blocks, prompt_tokens=3200, known=state)[1]
    (told,) = [one for one in commands if isinstance(one, Send)]
    assert (told.engine, told.sequence) == (B, state.sequence)
    assert f"{3200 - 1:,} of 3,200" in told.reason or f"{100 * BLOCK_TOKENS - 1:,}" in told.reason


def test_what_another_replica_knew_long_ago_is_not_believed() -> None:
    story = Story(engine(A, 4), engine(B, 4))
    old = ProgramState(ADA, 1, "door", "tool", 900.0, B, 3, 100, sequence=7, context_tokens=3200, until=901.0)
    commands = story.arrives(ADA, prefix=tuple(range(100)), prompt_tokens=3200, known=old)[1]
    (told,) = [one for one in commands if isinstance(one, Send)]
    assert (told.engine, told.sequence) == (A, 7)


def test_a_call_whose_engine_dies_goes_to_another() -> None:
    story = Story(engine(A), engine(B))
    number, commands = story.arrives(ADA)
    assert sent(commands) == [(number, A)]
    commands = story.handle(CallFailed(story.now, number, DIED))
    assert sent(commands) == [(number, B)]
    assert [one.engine for one in commands if isinstance(one, WatchEngine)] == [A]


def test_a_request_that_every_engine_fails_at_is_refused_and_the_engine_serves_others() -> None:
    """A vLLM answers 500 each time to a request that it cannot compute."""
    story = Story()
    number, commands = story.arrives(ADA)
    at = story.now
    while not refused(commands):
        commands = story.handle(CallFailed(at, number, BROKEN))
        assert not [one for one in commands if isinstance(one, WatchEngine)]
        for alarm in [one for one in commands if isinstance(one, CallMeAt)]:
            at = alarm.at
            story.handle(WakeUp(at))
    assert refused(commands) == [(number, "engine_error")]
    other, commands = story.arrives(BOB)
    assert sent(commands) == [(other, A)]


def test_an_engine_that_fails_calls_of_different_programs_is_taken_out() -> None:
    story = Story(engine(max_running=5))
    calls = [story.call() for _ in range(5)]
    watched = [story.handle(CallFailed(story.now, call, BROKEN)) for call in calls]
    assert [any(isinstance(one, WatchEngine) for one in commands) for commands in watched] == [False] * 4 + [True]


def test_what_the_client_has_begun_to_read_is_not_asked_for_again() -> None:
    story = Story(engine(A), engine(B))
    number = story.call(ADA)
    commands = story.handle(CallFailed(story.now, number, DIED, begun=True))
    assert sent(commands) == []
    assert refused(commands) == []


def test_without_engines_calls_wait_for_a_while_and_are_then_refused() -> None:
    story = Story(no_engine_s=10.0)
    story.handle(EngineLost(story.now, A, "gone"))
    number, commands = story.arrives(ADA)
    (alarm,) = [one for one in commands if isinstance(one, CallMeAt)]
    assert refused(story.handle(WakeUp(alarm.at))) == [(number, "no_engine")]
    other, commands = story.arrives(BOB)
    assert sent(story.handle(EngineBack(story.now, A, 1000))) == [(other, A)]


def test_an_engine_that_asks_to_wait_is_asked_again_then() -> None:
    story = Story()
    number = story.call(ADA)
    busy = Failure(FailureClass.RATE, "rate_limited", "slowly", retry_after_s=2.0)
    commands = story.handle(CallFailed(story.now, number, busy))
    (alarm,) = [one for one in commands if isinstance(one, CallMeAt)]
    assert alarm.at == pytest.approx(story.now + 2)
    assert sent(story.handle(WakeUp(alarm.at))) == [(number, A)]


@pytest.mark.parametrize("where", ["waiting", "inside", "resting"])
def test_a_client_that_goes_leaves_nothing_behind(where: str) -> None:
    story = Story()
    inside = story.call(ADA)
    number = story.call(BOB) if where == "waiting" else inside
    if where == "resting":
        story.handle(CallFailed(story.now, inside, Failure(FailureClass.RATE, "rate_limited", "", 5.0)))
    story.handle(CallGone(story.now, number))
    story.handle(CallGone(story.now, inside))
    assert len(story.core.line) == 0
    assert story.core.fleet.views[A].running == 0
    number, commands = story.arrives(BOB)
    assert sent(commands) == [(number, A)]


def test_calls_fit_the_kv_and_one_alone_always_does() -> None:
    story = Story(replace(engine(max_running=8), kv_tokens=1000))
    big, commands = story.arrives(ADA, prompt_tokens=5000, answer_tokens=10)
    assert sent(commands) == [(big, A)]
    small, commands = story.arrives(BOB, prompt_tokens=100, answer_tokens=10)
    assert sent(commands) == []
    assert sent(story.answered(big)) == [(small, A)]
