"""Which agents may run, told as stories: given these prompts, these tools and this room, these calls."""

from dataclasses import replace

from agent_line import AgentLine, grows
from example_plans import generate

from executor.core.limits import Limits
from executor.core.working_sets import IDLE_S
from executor.engines.port import EngineSpec
from executor.events import Cancelled, EngineLost
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, JobId

LEFT, RIGHT = EngineId("left"), EngineId("right")
#: Of 100 blocks 90 are given away. An agent takes 31: ten that all share, twenty of its own, and its answer.
ENGINE = EngineSpec(LEFT, "scripted", ("small",), gpu="A100", max_running=16, kv_tokens=100 * BLOCK_TOKENS)
OTHER = replace(ENGINE, id=RIGHT)
PROMPTS = grows(shared=10, own=20)
FULL = "does not fit beside the active programs"


def test_agents_run_as_far_as_their_kv_fits_and_what_they_share_counts_once() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5)
    assert sorted(line.inside) == [0, 1, 2]
    assert [(one.program, one.doing) for one in line.saved if "held" in one.doing] == [
        ("j/3", f"held: {FULL}"),
        ("j/4", f"held: {FULL}"),
    ]


def test_when_one_ends_the_next_program_is_let_in_and_says_why_it_was_held() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5)
    line.now = 2.0
    line.answer(1, last=True)
    assert sorted(line.inside) == [0, 2, 3]
    assert line.sent[-1].reason.endswith(f"; held 2.0 s: {FULL}; let in: fits")
    assert line.ended == [1]


def test_over_a_short_tool_an_agent_keeps_its_room() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5)
    line.now = 1.0
    line.answer(0)
    line.wait(0.001)
    assert sorted(line.inside) == [1, 2]
    line.back(0)
    assert sorted(line.inside) == [0, 1, 2]
    assert "held" not in line.sent[-1].reason


def test_over_a_long_tool_it_gives_way_and_comes_back_before_later_programs() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5)
    line.answer(0)
    line.wait(60.0)
    assert sorted(line.inside) == [1, 2, 3], "an alarm rang when holding no longer paid"
    line.back(0)
    assert sorted(line.inside) == [1, 2, 3]
    line.answer(2, last=True)
    assert sorted(line.inside) == [0, 1, 3]


def test_while_a_tool_runs_the_programs_state_says_where_its_kv_is_and_until_when() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(2)
    line.now = 1.0
    line.answer(1)
    state = line.saved[-1]
    assert (state.program, state.doing, state.tool, state.engine) == ("j/1", "tool lookup", "lookup", LEFT)
    assert (state.sequence, state.turns, state.context_tokens) == (2, 1, 31 * BLOCK_TOKENS)
    assert state.until is not None
    assert 1.0 < state.until < 2.0


def test_where_everything_fits_nobody_is_held() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(3)
    assert sorted(line.inside) == [0, 1, 2]
    for row in (0, 1, 2):
        line.answer(row)
        line.wait(100.0)
        line.back(row)
    assert not line.alarms
    assert not any("held" in text for text in [*(one.doing for one in line.saved), *(one.reason for one in line.sent)])


def test_an_engine_that_does_not_tell_its_room_takes_everybody() -> None:
    line = AgentLine(PROMPTS, replace(ENGINE, kv_tokens=0)).submit(10)
    assert len(line.inside) == 10


def test_without_admission_everybody_runs_as_far_as_the_window_allows() -> None:
    line = AgentLine(PROMPTS, ENGINE, limits=Limits(admission=None)).submit(5)
    assert len(line.inside) == 5


def test_single_calls_are_not_held() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5, stages=[generate("ask", Column("q"))])
    assert len(line.inside) == 5


def test_one_too_big_for_the_engine_runs_once_nothing_else_does() -> None:
    line = AgentLine(grows(shared=0, own=120), ENGINE).submit(2)
    assert sorted(line.inside) == [0]
    assert line.sent[-1].reason.endswith("let in: nothing else runs")
    line.answer(0, last=True)
    assert sorted(line.inside) == [1]


def test_it_waits_a_moment_for_whoever_may_be_back() -> None:
    line = AgentLine(lambda row, turn: tuple(range(1000 * row, 1000 * row + (120 if row else 60))), ENGINE).submit(2)
    line.answer(0)
    assert not line.inside
    line.wait(IDLE_S + 0.01)
    assert sorted(line.inside) == [1]


def test_whoever_waited_for_long_enough_is_let_in() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(4)
    line.wait(299.0)
    assert sorted(line.inside) == [0, 1, 2]
    line.wait(2.0)
    assert sorted(line.inside) == [0, 1, 2, 3]
    assert line.sent[-1].reason.endswith("let in: waited long enough")


def test_programs_of_an_engine_that_is_lost_are_let_in_elsewhere_as_far_as_they_fit() -> None:
    line = AgentLine(PROMPTS, ENGINE, OTHER).submit(6)
    assert len(line.inside) == 6
    line.tell(EngineLost(1.0, LEFT, "gone"))
    line.now = 1.0
    line.inside = {row: call for row, call in line.inside.items() if call.engine == RIGHT}
    line.wait(1.0)
    assert len(line.inside) == 3, "those that were on the other engine; the others wait for room there"
    line.answer(min(line.inside), last=True)
    assert len(line.inside) == 3
    assert {call.engine for call in line.inside.values()} == {RIGHT}


def test_a_cancelled_job_leaves_its_room() -> None:
    line = AgentLine(PROMPTS, ENGINE).submit(5)
    line.tell(Cancelled(1.0, JobId("j")))
    line.inside, line.now = {}, 1.0
    line.submit(3, job="k")
    assert sorted(line.inside) == [0, 1, 2]
