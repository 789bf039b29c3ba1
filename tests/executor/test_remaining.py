"""How long programs are believed to take still, as their stages are seen: told as stories."""

from dataclasses import replace

import pytest
from example_plans import generate, output

from executor.commands import Scope
from executor.core.remaining import Remaining
from executor.core.template import make_template
from executor.core.work import Frame, Program, Role, Work, open_frame
from executor.events import Recovered
from executor.policy.ordering import QueueKey
from planner.ir.expressions import Column, Const
from planner.ir.ids import JobId, NodeRef, ProgramId, StageId
from planner.ir.plan import Body, Generate, Input, Loop, Plan, Sampling

ASK = replace(generate("ask", Column("q")), sampling=Sampling(max_tokens=100))
REPAIR = replace(generate("repair", Column("state")), sampling=Sampling(max_tokens=100))
VOTE = replace(generate("vote", output("repairs")), sampling=Sampling(max_tokens=100))
REPAIRS = Loop(
    StageId("repairs"), output("ask"), Column("state"), Body(Plan("b", (Input("state"),), (REPAIR,), Const(1))), 5
)
PLAN = Plan("p", (Input("q"),), (ASK, REPAIRS, VOTE), Const(1))


def seen(rounds: int = 2, programs: int = 50) -> Remaining:
    """Asking takes 4 s, a repair 2 s, a vote 1 s; every program is repaired so many times."""
    remaining = Remaining()
    for _ in range(programs):
        remaining.call_took(ASK, 4.0)
        for done in range(rounds):
            remaining.went(REPAIRS, done, 0)
            remaining.call_took(REPAIR, 2.0)
        remaining.went(REPAIRS, rounds, 1)
        remaining.call_took(VOTE, 1.0)
    return remaining


def program() -> Program:
    return Program(ProgramId("j/0"), JobId("j"), 0, PLAN, QueueKey(0, 0, 0), Recovered())


def call(stage: Generate, frame: Frame, index: int) -> Work:
    scope = Scope(frame.prefix, stage)
    return Work(NodeRef(ProgramId("j/0"), stage.id), program(), frame, scope, Role.CALL, index)


def repair(done: int) -> Work:
    """The call of the loop's body after so many rounds."""
    outer = open_frame(make_template(PLAN), "", None)
    loop = Work(NodeRef(ProgramId("j/0"), "repairs"), program(), outer, Scope("", REPAIRS), Role.CONTAINER, 1)
    loop.parts = done
    return call(REPAIR, open_frame(make_template(REPAIRS.body.plan), "r", loop), 0)


def test_the_path_is_as_long_as_its_stages_took() -> None:
    frame = open_frame(make_template(PLAN), "", None)
    assert seen().whole_s(program()) == pytest.approx(4 + 2 * 2 + 1, rel=0.05)
    assert seen().left_s(call(VOTE, frame, 2)) == pytest.approx(1.0)


def test_within_a_loop_the_rounds_that_are_usual_from_there_on_count() -> None:
    remaining = seen(rounds=2)
    assert remaining.left_s(repair(done=0)) == pytest.approx(2 + 2 + 1, rel=0.05)
    assert remaining.left_s(repair(done=1)) == pytest.approx(2 + 1, rel=0.05)


def test_beyond_what_was_ever_seen_a_loop_may_stop_as_well_as_go_on() -> None:
    assert 2 + 1 < seen(rounds=1).left_s(repair(done=2)) < 2 + 2 + 1


def test_before_anything_was_seen_it_is_guessed_by_the_lengths_that_are_allowed() -> None:
    assert Remaining().whole_s(program()) > Remaining().call_s(ASK) > 0


def test_a_program_keeps_what_was_first_believed_of_it() -> None:
    one, remaining = program(), seen()
    before = remaining.whole_s(one)
    for _ in range(100):
        remaining.call_took(ASK, 40.0)
    assert remaining.whole_s(one) == before
    assert remaining.whole_s(program()) > before + 30
