"""Which programs the door lets in, told as stories: given these calls and this room, these go to the engine."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from executor.commands import CallMeAt
from executor.core.working_sets import ADMISSION, IDLE_S
from executor.door.commands import DoorCommand, KeepState, Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, DoorEvent
from executor.door.limits import DoorLimits
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.engines.rungs import Rung
from executor.events import EngineBack, EngineLost, RungFound, WakeUp
from executor.policy.fairness import TenantShare
from executor.prompt_blocks import BLOCK_TOKENS
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId

LEFT, RIGHT = EngineId("left"), EngineId("right")
#: Of 100 blocks 90 are given away. A program takes 31: ten that all share, twenty of its own, and its answer.
ENGINE = EngineSpec(LEFT, "vllm", ("m",), url="http://engine", max_running=16, kv_tokens=100 * BLOCK_TOKENS)
OTHER = replace(ENGINE, id=RIGHT)
PYTEST = ToolKey("bash", "pytest")
FULL = "does not fit beside the active programs"


class Story:
    """Programs are numbers; `inside` are the calls that engines have now, with the engine, by program."""

    def __init__(self, *engines: EngineSpec, **limits: Any) -> None:
        self.core, self.now, self.numbers = DoorCore(engines or (ENGINE,), DoorLimits(**limits)), 1000.0, count(1)
        self.of: dict[int, int] = {}
        self.inside: dict[int, list[tuple[int, EngineId]]] = {}
        self.reasons: dict[int, str] = {}
        self.doing: dict[int, str] = {}
        self.refused: list[int] = []
        self.alarms: list[float] = []

    def arrives(self, program: int, *, named: bool = True, tenant: str = "team", **more: Any) -> int:
        number = next(self.numbers)
        self.of[number] = program
        begin = 1000 * (program + 1)
        prefix = (*range(10), *range(begin, begin + 20))
        id = ProgramId(f"{tenant}/{program}")
        given = {"named": id if named else None, "prefix": prefix, "prompt_tokens": 30 * BLOCK_TOKENS, **more}
        self.tell(CallArrived(self.now, number, tenant, "m", id, answer_tokens=BLOCK_TOKENS, **given))
        return number

    def arrive(self, *programs: int, **more: Any) -> "Story":
        for program in programs:
            self.arrives(program, **more)
        return self

    def answer(self, program: int, *tools: ToolKey) -> None:
        number, _ = self.inside[program].pop(0)
        self.tell(CallAnswered(self.now, number, Usage(30 * BLOCK_TOKENS, BLOCK_TOKENS), tools=tools))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.alarms and min(self.alarms) <= until:
            self.now = max(self.now, min(self.alarms))
            self.alarms.remove(min(self.alarms))
            self.tell(WakeUp(self.now))
        self.now = until

    def tell(self, event: DoorEvent) -> None:
        for command in self.core.handle(event):
            self._take(command)

    def _take(self, command: DoorCommand) -> None:
        match command:
            case Send(call=call, engine=engine, reason=reason):
                self.inside.setdefault(self.of[call], []).append((call, engine))
                self.reasons[self.of[call]] = reason
            case KeepState(state=state):
                self.doing[int(state.program.partition("/")[2])] = state.doing
            case Refuse(call=call):
                self.refused.append(call)
            case CallMeAt(at=at):
                self.alarms.append(at)
            case _:
                pass

    @property
    def running(self) -> list[int]:
        return sorted(program for program, calls in self.inside.items() for _ in calls)


def test_programs_are_sent_as_far_as_their_kv_fits_and_the_state_of_others_says_why_not() -> None:
    story = Story().arrive(0, 1, 2, 3, 4)
    assert story.running == [0, 1, 2]
    assert (story.doing[3], story.doing[4]) == (f"held: {FULL}", f"held: {FULL}")


def test_when_one_is_done_the_next_is_let_in_and_says_how_long_it_was_held() -> None:
    story = Story().arrive(0, 1, 2, 3, 4)
    story.now += 2.0
    story.answer(1)
    assert story.running == [0, 2, 3]
    assert story.reasons[3].endswith(f"; held 2.0 s: {FULL}; let in: fits")


def test_over_a_short_tool_a_program_keeps_its_room_and_its_next_turn_is_sent_at_once() -> None:
    story = Story().arrive(0, 1, 2, 3)
    story.answer(0, PYTEST)
    story.wait(0.001)
    assert story.running == [1, 2]
    story.arrives(0)
    assert story.running == [0, 1, 2]
    assert "held" not in story.reasons[0]


def test_over_a_long_tool_it_gives_way_and_is_let_in_again_before_later_programs() -> None:
    story = Story().arrive(0, 1, 2, 3, 4)
    story.answer(0, PYTEST)
    story.wait(60.0)
    assert story.running == [1, 2, 3]
    story.arrives(0)
    assert story.running == [1, 2, 3]
    story.answer(2)
    assert story.running == [0, 1, 3]


def test_a_new_chat_is_never_held_and_neither_is_one_that_goes_on() -> None:
    story = Story().arrive(0, 1, 2)
    story.arrives(3, named=False)
    assert story.running == [0, 1, 2, 3]
    story.answer(3)
    story.arrives(3)
    assert story.running == [0, 1, 2, 3]


def test_who_offers_tools_is_held_without_a_name_too() -> None:
    story = Story().arrive(0, 1, 2)
    story.arrives(3, named=False, offers_tools=True)
    assert story.running == [0, 1, 2]


def test_who_called_a_tool_once_is_asked_about_from_then_on() -> None:
    story = Story()
    story.arrives(3, named=False)
    story.answer(3, PYTEST)
    story.arrive(0, 1, 2)
    story.arrives(3)
    assert story.running == [0, 1, 2]


def test_an_engine_that_admits_by_itself_gets_everybody() -> None:
    story = Story()
    story.tell(RungFound(story.now, LEFT, Rung.PLUGIN))
    assert story.arrive(0, 1, 2, 3, 4).running == [0, 1, 2, 3, 4]


def test_where_another_server_stands_now_it_is_done_here_again() -> None:
    story = Story()
    story.tell(RungFound(story.now, LEFT, Rung.PLUGIN))
    story.tell(RungFound(story.now, LEFT, Rung.PREFIX_CACHE))
    assert story.arrive(0, 1, 2, 3, 4).running == [0, 1, 2]


def test_without_admission_everybody_is_sent() -> None:
    assert Story(admission=None).arrive(0, 1, 2, 3, 4).running == [0, 1, 2, 3, 4]


def test_more_calls_of_a_program_that_runs_are_sent_as_they_come() -> None:
    story = Story().arrive(0, 1, 2)
    story.arrive(0, 0)
    assert story.running == [0, 0, 0, 1, 2]


def test_each_of_a_program_s_calls_keeps_its_room_over_its_tool_and_what_they_share_is_counted_once() -> None:
    story = Story()
    one, two = ((*range(10), *range(begin, begin + 20)) for begin in (5000, 6000))
    for prefix in (one, two):
        story.arrives(0, prefix=prefix)
    story.answer(0, PYTEST)
    story.answer(0, PYTEST)
    story.arrive(1, 2)
    assert story.running == [1]
    for prefix in (two, one):
        story.arrives(0, prefix=(*prefix, 7))
    assert story.running == [0, 0, 1]
    assert story.doing[2] == f"held: {FULL}"


def test_when_one_of_a_program_s_calls_is_done_for_good_the_other_keeps_its_room() -> None:
    story = Story()
    for begin in (5000, 6000):
        story.arrives(0, prefix=(*range(10), *range(begin, begin + 20)))
    story.answer(0)
    assert story.arrive(1, 2, 3).running == [0, 1, 2]
    story.answer(0, PYTEST)
    assert story.running == [1, 2]


def test_more_calls_of_a_program_that_is_held_wait_with_it_and_go_with_it() -> None:
    story = Story().arrive(0, 1, 2, 3, 3)
    assert story.running == [0, 1, 2]
    story.answer(0)
    assert story.running == [1, 2, 3, 3]


def test_when_the_call_goes_that_stood_for_its_program_the_next_one_does() -> None:
    story = Story().arrive(0, 1, 2)
    first = story.arrives(3)
    story.arrives(3)
    story.tell(CallGone(story.now, first))
    assert story.running == [0, 1, 2]
    story.answer(0)
    assert story.running == [1, 2, 3]


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_client_that_goes_while_its_call_is_held_leaves_nothing_behind(which: str) -> None:
    story = Story().arrive(0, 1, 2)
    calls = story.arrives(3), story.arrives(3)
    story.tell(CallGone(story.now, calls[which == "second"]))
    story.tell(CallGone(story.now, calls[which == "first"]))
    assert not story.core.admission.held
    story.answer(0)
    assert story.arrive(4).running == [1, 2, 4]


def test_calls_that_are_held_count_as_waiting() -> None:
    story = Story(waiting=2).arrive(0, 1, 2, 3, 4)
    assert story.refused == []
    assert story.arrives(5) == story.refused[0]


def test_without_engines_what_is_held_is_refused_after_a_while() -> None:
    story = Story(no_engine_s=10.0)
    story.tell(EngineLost(story.now, LEFT, "gone"))
    number = story.arrives(0)
    assert story.core.admission.held
    story.wait(11.0)
    assert story.refused == [number]
    assert not story.core.admission.held


def test_one_too_big_for_the_engine_runs_when_nothing_else_does() -> None:
    big = tuple(range(5000, 5120))
    story = Story()
    story.arrives(0, prefix=big, prompt_tokens=120 * BLOCK_TOKENS)
    assert story.running == [0]
    story.arrives(1)
    assert story.running == [0]
    story.answer(0, PYTEST)
    story.wait(IDLE_S + 0.01)
    assert story.running == [1]


def test_programs_of_an_engine_that_dies_are_let_in_elsewhere_as_far_as_they_fit() -> None:
    died = Failure(FailureClass.ENGINE_DIED, "engine_died", "the connection broke")
    story = Story(ENGINE, OTHER).arrive(0, 1, 2, 3, 4, 5)
    assert len(story.running) == 6
    broken = [call for calls in story.inside.values() for call, engine in calls if engine == LEFT]
    story.inside = {program: [one for one in calls if one[1] == RIGHT] for program, calls in story.inside.items()}
    for call in broken:
        story.tell(CallFailed(story.now, call, died))
    assert len(story.running) == 3
    story.answer(story.running[0])
    assert len(story.running) == 3
    assert {engine for calls in story.inside.values() for _, engine in calls} == {RIGHT}


def test_a_program_that_asks_two_models_has_room_for_each() -> None:
    both = replace(ENGINE, models=("m", "n"))
    story = Story(both, replace(OTHER, models=("n",)))
    story.arrives(0)
    story.answer(0, PYTEST)
    number = next(story.numbers)
    story.of[number] = 0
    story.tell(CallArrived(story.now, number, "team", "n", ProgramId("x"), ProgramId("team/0"), prompt_tokens=100))
    assert story.running == [0]


def test_of_a_program_that_is_forgotten_nothing_is_kept() -> None:
    story = Story(idle_s=60.0).arrive(0)
    story.answer(0, PYTEST)
    assert story.core.admission.sets.sets[LEFT].members
    story.now += 61.0
    story.arrives(1, named=False)
    assert not story.core.admission.sets.sets[LEFT].members


FLOOD = range(1000)
ANN = range(2000, 2100)


def test_a_tenant_that_opens_a_thousand_programs_does_not_keep_another_s_next_one_out() -> None:
    story = Story().arrive(*FLOOD, tenant="flood")
    assert story.running == [0, 1, 2]
    story.arrive(2000, tenant="ann")
    assert story.doing[2000] == f"held: {FULL}"
    story.answer(0)
    assert story.running == [1, 2, 2000]


def test_tenants_programs_enter_in_turn_and_each_tenant_s_in_their_order() -> None:
    entered = _entered_in_turn(Story().arrive(*FLOOD, tenant="flood").arrive(*ANN, tenant="ann"), 40)
    assert [one for one in entered if one in FLOOD] == sorted(one for one in entered if one in FLOOD)
    assert [one for one in entered if one in ANN] == sorted(one for one in entered if one in ANN)
    assert 19 <= sum(one in ANN for one in entered) <= 22


def test_a_tenant_of_three_times_the_weight_has_three_times_as_many_programs_let_in() -> None:
    story = Story(tenants={"ann": TenantShare(weight=3.0)})
    entered = _entered_in_turn(story.arrive(*FLOOD, tenant="flood").arrive(*ANN, tenant="ann"), 80)
    assert 58 <= sum(one in ANN for one in entered) <= 63


def test_where_several_have_room_at_once_they_are_not_all_of_one_tenant() -> None:
    story = Story()
    story.tell(EngineLost(story.now, LEFT, "gone"))
    story.arrive(0, 1, 2, 3, tenant="flood").arrive(2000, 2001, 2002, 2003, tenant="ann")
    assert story.running == []
    story.tell(EngineBack(story.now, LEFT, None))
    assert sum(program in ANN for program in story.running) in (1, 2)
    assert len(story.running) == 3


def test_a_tenant_s_big_program_is_passed_by_few_of_another_s_small_ones() -> None:
    story = Story().arrive(0, 1, 2, tenant="flood")
    big = tuple(range(5000, 5060))
    story.arrives(2000, tenant="ann", prefix=big, prompt_tokens=60 * BLOCK_TOKENS)
    story.arrive(*range(3, 500), tenant="flood")
    entered = _entered_in_turn(story, 20)
    assert 2000 in entered[:12]


def test_who_has_waited_longest_is_let_in_whosever_turn_it_is() -> None:
    bound = replace(ADMISSION, patience_s=50.0)
    story = Story(admission=bound).arrive(0, 1, 2, 3, tenant="flood")
    story.wait(40.0)
    story.arrive(*ANN, tenant="ann")
    story.wait(10.1)
    assert story.running == [0, 1, 2, 3]
    assert "waited long enough" in story.reasons[3]


def _entered_in_turn(story: Story, answers: int) -> list[int]:
    """Whose programs came in, one after the other, while the earliest inside are done one by one."""
    inside, entered = story.running, list[int]()
    for _ in range(answers):
        story.now += 1.0
        done = inside.pop(0)
        story.answer(done)
        came = [program for program in story.running if program not in inside]
        inside += came
        entered += came
    return entered
