"""What names a call's answer at run time: all that the engine is asked, and nothing else."""

from dataclasses import replace

import pytest
from example_plans import LOOKUP, generate, tool, user

from executor.commands import Prepare, Scope
from executor.events import Prepared
from executor.values import Values
from planner.ir.expressions import Column, Const
from planner.ir.ids import ContentKey, NodeRef, ProgramId, StageId
from planner.ir.plan import Agent, Generate, Input, Plan, Sampling, Stage
from planner.ir.values import Json

ASK = generate("ask", Const("Q: "), Column("question"))
SCHEMA: Json = {"type": "object", "properties": {"why": {"type": "string"}, "answer": {"type": "string"}}}
TURNED: Json = {"type": "object", "properties": {"answer": {"type": "string"}, "why": {"type": "string"}}}


def key_of(stage: Stage, question: str = "How many?", path: str = "") -> ContentKey | None:
    program = ProgramId("job/0")
    values = Values()
    values.open_program(program, Plan("p", (Input("question"),), (stage,), Const(1)), {"question": question})
    prepared = values.answer(Prepare(NodeRef(program, path or stage.id), 1, Scope("", stage)), 0.0)
    assert isinstance(prepared, Prepared)
    return prepared.key


def test_the_same_question_has_the_same_key_whatever_the_stage_is_called() -> None:
    assert key_of(ASK) == key_of(replace(generate("say", Const("Q: How many?")), retries=0, timeout_s=1.0)) is not None


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, model="large"),
        replace(ASK, sampling=Sampling(max_tokens=7)),
        replace(ASK, schema=SCHEMA),
        generate("ask", Const("q: "), Column("question")),
    ],
)
def test_whatever_can_change_the_answer_changes_the_key(other: Generate) -> None:
    assert key_of(other) != key_of(ASK)


def test_a_schema_with_its_fields_in_another_order_asks_for_another_answer() -> None:
    assert key_of(replace(ASK, schema=SCHEMA)) != key_of(replace(ASK, schema=TURNED))


def test_an_agents_turn_is_no_plain_call_though_the_engine_is_asked_the_same() -> None:
    agent = Agent(StageId("ask"), "small", user(Const("Q: "), Column("question")), ())
    assert key_of(agent, path="ask#0") != key_of(ASK)


def test_only_answers_that_must_be_equal_have_a_key() -> None:
    assert key_of(replace(ASK, sampling=Sampling(temperature=1.0))) is None
    assert key_of(replace(ASK, sampling=Sampling(temperature=1.0, seed=3))) is not None
    assert key_of(tool("look", LOOKUP, db=Column("question"))) is not None
