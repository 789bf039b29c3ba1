"""What engines are told between a program's calls: given these events, these hints."""

from itertools import count
from typing import Any

from executor.commands import CallMeAt, Hint
from executor.door.asking import cache_salt, hint_body
from executor.door.commands import DoorCommand, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone
from executor.door.hinting import NO_TOOL
from executor.door.limits import DoorLimits
from executor.engines.names import salted
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.events import EngineLost, WakeUp
from halo_vllm.policy.hints import EVENTS, Clamps, read_hints
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId

A, B = EngineId("a"), EngineId("b")
ADA, BOB = ProgramId("team/ada"), ProgramId("team/bob")
PYTEST, FETCH = ToolKey("bash", "pytest"), ToolKey("fetch", "host.example")


class Story:
    """A core before engines that take one call each and have a model of their own name, and a clock that only the
    story moves."""

    def __init__(self, *engines: EngineId, **limits: Any) -> None:
        specs = [EngineSpec(id, "vllm", ("m", id), url="http://engine", max_running=1) for id in engines or (A,)]
        self.core = DoorCore(specs, DoorLimits(**limits))
        self.now, self.numbers = 1000.0, count(1)

    def arrives(self, program: ProgramId, **more: Any) -> tuple[int, list[DoorCommand]]:
        self.now += 1
        number = next(self.numbers)
        given = {"tenant": "team", "model": "m", "fresh": ProgramId("new"), "prompt_tokens": 100, **more}
        return number, self.core.handle(CallArrived(self.now, number, named=program, **given))

    def call(self, program: ProgramId, **more: Any) -> int:
        return self.arrives(program, **more)[0]

    def answered(self, call: int, *tools: ToolKey) -> list[DoorCommand]:
        return self.core.handle(CallAnswered(self.now, call, Usage(100, 10), tools=tools))

    def fails(self, call: int, failure: Failure) -> list[DoorCommand]:
        """And is tried again when its rest is over."""
        commands = self.core.handle(CallFailed(self.now, call, failure))
        for alarm in [one for one in commands if isinstance(one, CallMeAt)]:
            self.now = alarm.at
            commands += self.core.handle(WakeUp(alarm.at))
        return commands


def hints(commands: list[DoorCommand]) -> list[Hint]:
    return [one for one in commands if isinstance(one, Hint)]


def engine_of(commands: list[DoorCommand]) -> EngineId:
    (sent,) = [one for one in commands if isinstance(one, Send)]
    return sent.engine


def test_the_engine_is_told_which_tools_its_program_waits_for() -> None:
    story = Story()
    commands = story.answered(story.call(ADA, cache_salt="pepper"), PYTEST, FETCH)
    assert hints(commands) == [Hint(A, ADA, "tool_called", (PYTEST, FETCH), "pepper")]


def test_of_programs_that_never_ask_for_a_tool_nothing_is_told() -> None:
    story = Story(idle_s=60.0)
    assert hints(story.answered(story.call(ADA))) == []
    story.now += 100
    assert hints(story.arrives(BOB)[1]) == []


def test_an_agent_that_asks_for_no_tool_waits_for_its_user_or_is_done_and_engines_learn_how_often() -> None:
    story = Story()
    story.answered(story.call(ADA), PYTEST)
    assert hints(story.answered(story.call(ADA))) == [Hint(A, ADA, "tool_called", (NO_TOOL,))]


def test_a_turn_that_can_be_sent_at_once_tells_by_itself_that_its_tool_has_finished() -> None:
    story = Story()
    story.answered(story.call(ADA), PYTEST)
    assert hints(story.arrives(ADA)[1]) == []


def test_a_turn_that_waits_for_room_is_told_so_that_what_is_kept_for_it_stays() -> None:
    story = Story()
    story.answered(story.call(ADA), PYTEST)
    story.call(BOB)
    assert hints(story.arrives(ADA)[1]) == [Hint(A, ADA, "tool_finished")]


def test_a_new_program_that_waits_has_nothing_that_could_be_kept() -> None:
    story = Story()
    story.call(BOB)
    assert hints(story.arrives(ADA)[1]) == []


def test_a_turn_that_goes_elsewhere_lets_go_where_it_was() -> None:
    story = Story(A, B)
    story.answered(story.call(ADA, model=A), PYTEST)
    turn, commands = story.arrives(ADA, model=B)
    assert engine_of(commands) == B
    assert hints(commands) == [Hint(A, ADA, "let_go")]
    assert hints(story.answered(turn, PYTEST)) == [Hint(B, ADA, "tool_called", (PYTEST,))]


def test_a_call_that_is_tried_elsewhere_lets_go_once_and_a_lost_engine_is_told_nothing() -> None:
    died = Failure(FailureClass.ENGINE_DIED, "engine_died", "the connection broke")
    ill = Failure(FailureClass.ENGINE, "engine_error", "not now")
    for failure, expected in ((died, []), (ill, [Hint(A, ADA, "let_go")])):
        story = Story(A, B)
        story.answered(story.call(ADA), PYTEST)
        turn, commands = story.arrives(ADA)
        assert engine_of(commands) == A
        commands = story.fails(turn, failure)
        assert engine_of(commands) == B
        assert hints(commands) == expected
        assert hints(story.fails(turn, ill)) == []


def test_while_another_call_of_the_program_runs_it_waits_for_no_tool() -> None:
    story = Story(A, B)
    first, second = story.call(ADA), story.call(ADA)
    assert [one.event for one in hints(story.answered(first, PYTEST))] == []
    assert [one.event for one in hints(story.answered(second, PYTEST))] == ["tool_called"]


def test_a_client_that_leaves_while_its_turn_waits_changes_nothing_for_the_engine() -> None:
    story = Story()
    story.answered(story.call(ADA), PYTEST)
    story.call(BOB)
    waits = story.call(ADA)
    assert hints(story.core.handle(CallGone(story.now, waits))) == []


def test_what_is_kept_for_a_program_nobody_came_back_for_is_let_go() -> None:
    story = Story(A, idle_s=60.0)
    story.answered(story.call(ADA, cache_salt="pepper"), PYTEST)
    story.now += 61
    assert hints(story.arrives(BOB)[1]) == [Hint(A, ADA, "let_go", cache_salt="pepper")]


def test_an_engine_that_is_away_is_told_nothing() -> None:
    story = Story(A, B)
    story.answered(story.call(ADA), PYTEST)
    story.core.handle(EngineLost(story.now, A, "gone"))
    assert hints(story.arrives(ADA)[1]) == []


def test_the_body_is_what_the_plugin_reads() -> None:
    body = hint_body(Hint(A, ProgramId("team/a b"), "tool_called", (PYTEST, FETCH), "pepper"))
    assert (body["program"], body["cache_salt"]) == ("team/a%20b", "pepper")
    assert body["event"] in EVENTS
    assert read_hints(body, Clamps()).tools == (PYTEST, FETCH)
    assert hint_body(Hint(A, ADA, "let_go")) == {"program": "team/ada", "event": "let_go"}


def test_the_salt_is_that_of_the_programs_calls() -> None:
    assert cache_salt({"cache_salt": "own"}, None) == "own"
    assert cache_salt({}, None) is None
    assert cache_salt({"cache_salt": "own"}, "team") == salted("team", "own") != cache_salt({}, "team")
