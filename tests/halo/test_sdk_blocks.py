"""`halo.blocks`: prompts that say where order is free."""

import pytest

import halo
from planner.ir.expressions import Blocks, Column, Concat, Const
from planner.ir.plan import Generate


@halo.llm(model="m")
def ask(question: str, schema: str) -> str:
    return halo.blocks(f"Question: {question}", schema)


def test_a_prompt_of_blocks_becomes_a_marked_region() -> None:
    @halo.workflow
    def flow(question: str, schema: str) -> str:
        return ask(question, schema)

    (stage,) = flow.plan.stages
    assert isinstance(stage, Generate)
    question = Concat((Const("Question: "), Column("question")))
    assert stage.messages[0].content == Concat((Blocks((question, Column("schema"))),))


def test_blocks_stand_in_a_longer_text_and_in_a_conversation() -> None:
    @halo.llm(model="m")
    def inside(question: str, schema: str) -> list[halo.Message]:
        free = halo.blocks(question, schema, separator="\n")
        return [halo.system("Be brief."), halo.user(f"Read this.\n{free}\nSQL:")]

    @halo.workflow
    def flow(question: str, schema: str) -> str:
        return inside(question, schema)

    (stage,) = flow.plan.stages
    assert isinstance(stage, Generate)
    assert stage.messages[1].content == Concat(
        (Const("Read this.\n"), Blocks((Column("question"), Column("schema")), "\n"), Const("\nSQL:"))
    )


def test_outside_a_workflow_they_are_text_in_the_written_order() -> None:
    assert ask.prompt("how many?", "t(a)") == [{"role": "user", "content": "Question: how many?\n\nt(a)"}]


def test_a_separator_is_known_when_the_workflow_is_defined() -> None:
    @halo.llm(model="m")
    def wrong(between: str) -> str:
        return halo.blocks("a", "b", separator=f"{between}")

    with pytest.raises(halo.WorkflowInvalid, match=r"the separator of halo\.blocks is known only"):

        @halo.workflow
        def flow(between: str) -> str:
            return wrong(between)
