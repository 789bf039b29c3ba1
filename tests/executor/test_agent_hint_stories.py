"""What engines are told of jobs' agents between their calls: given these events, these hints."""

from dataclasses import replace

from agent_line import MOST_TURNS, AgentLine, grows
from example_plans import LOOKUP, user

from executor.commands import Command, Hint
from executor.engines.port import EngineSpec, Failure, FailureClass
from executor.events import Cancelled, EngineLost, NodeFailed
from halo_vllm.policy.tools import ToolKey
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, JobId, ProgramId, StageId
from planner.ir.plan import Agent

A, B = EngineId("a"), EngineId("b")
ENGINE = EngineSpec(A, "scripted", ("small",), max_running=4)
PROGRAM = ProgramId("j/0")
LOOK = (ToolKey("lookup"),)


class Told(AgentLine):
    """And what engines were told, in order."""

    def __init__(self, *fleet: EngineSpec) -> None:
        self.hints: list[Hint] = []
        super().__init__(grows(0, 5), *fleet)

    def _take(self, command: Command) -> None:
        if isinstance(command, Hint):
            self.hints.append(command)
        super()._take(command)

    def heard(self) -> list[Hint]:
        """Since this was asked last."""
        heard, self.hints = self.hints, []
        return heard


def test_the_engine_is_told_which_tool_runs_when_it_is_done_and_when_the_program_is() -> None:
    line = Told(ENGINE)
    line.submit(1)
    assert line.heard() == []
    line.answer(0)
    assert line.heard() == [Hint(A, PROGRAM, "tool_called", LOOK)]
    line.back(0)
    assert line.heard() == [Hint(A, PROGRAM, "tool_finished")]
    line.answer(0, last=True)
    assert line.heard() == [Hint(A, PROGRAM, "let_go"), Hint(A, PROGRAM, "last_step")]
    assert line.ended == [0]


def test_a_turn_that_goes_to_another_engine_lets_go_where_it_was() -> None:
    line = Told(ENGINE, replace(ENGINE, id=B))
    line.submit(1)
    line.answer(0)
    line.back(0)
    line.heard()
    call = line.inside.pop(0)
    refused = Failure(FailureClass.ENGINE, "engine_error", "not now")
    line.tell(NodeFailed(line.now, call.node, call.attempt, refused))
    line.wait(60.0)
    assert (call.engine, line.inside[0].engine) == (A, B)
    assert line.heard() == [Hint(A, PROGRAM, "let_go")]


def test_an_engine_that_is_away_is_told_nothing() -> None:
    line = Told(ENGINE, replace(ENGINE, id=B))
    line.submit(1)
    line.answer(0)
    line.heard()
    line.tell(EngineLost(line.now, A, "gone"))
    line.back(0)
    assert line.inside[0].engine == B
    assert line.heard() == []


def test_of_a_program_that_is_cancelled_nothing_more_comes() -> None:
    line = Told(ENGINE)
    line.submit(1)
    line.answer(0)
    line.heard()
    line.tell(Cancelled(line.now, JobId("j")))
    assert line.heard() == [Hint(A, PROGRAM, "last_step")]


def test_of_two_agents_in_one_program_none_lets_go_what_the_other_waits_for() -> None:
    both = [Agent(StageId(name), "small", user(Column("q")), (LOOKUP,), MOST_TURNS) for name in ("one", "two")]
    line = Told(ENGINE)
    line.submit(1, stages=both)
    for call in line.sent[:2]:
        line.inside[0] = call
        line.answer(0)
    line.heard()
    line.back(0)
    line.answer(0, last=True)
    assert [hint.event for hint in line.heard()] == ["tool_finished"]
