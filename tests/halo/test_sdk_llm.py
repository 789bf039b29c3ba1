"""`@halo.llm`: options, variants, and prompts seen without a workflow."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel

import halo
from planner.ir.plan import Fallback, Generate, Sampling

LineOf = Callable[[str], str]


class Connection:
    """Nothing JSON could hold."""


class Draft(BaseModel):
    sql: str


@halo.llm(model="sql", temperature=0.2, top_p=0.9, max_tokens=99, seed=7, stop="\n", timeout="5m", retries=1)
def draft(question: str) -> str:
    return f"Q: {question}"


def stage(call: halo.Llm[[str], object]) -> Generate:
    @halo.workflow
    def ask(question: str) -> object:
        return call(question)

    (found,) = ask.plan.stages
    assert isinstance(found, Generate)
    return found


def test_options_come_into_the_plan() -> None:
    found = stage(draft)
    assert found.sampling == Sampling(temperature=0.2, top_p=0.9, max_tokens=99, seed=7, stop=("\n",))
    assert (found.model, found.timeout_s, found.retries) == ("sql", 300.0, 1)


def test_a_variant_changes_what_it_names_and_leaves_the_original() -> None:
    hot = draft.options(model="big", temperature=1, seed=None, fallback="none")
    assert stage(hot).sampling == Sampling(temperature=1.0, top_p=0.9, max_tokens=99, seed=None, stop=("\n",))
    assert (stage(hot).model, stage(hot).fallback) == ("big", Fallback("none"))
    assert stage(draft).sampling.seed == 7


def test_a_fallback_may_be_the_model_that_is_answered() -> None:
    @halo.llm(model="m", output=Draft, fallback=Draft(sql="select 1"))
    def call(question: str) -> str:
        return question

    assert stage(call).fallback == Fallback({"sql": "select 1"})


def test_its_prompt_can_be_seen_anywhere() -> None:
    @halo.llm(model="m")
    def chat(question: str) -> list[halo.Message]:
        return [halo.system("Be brief."), halo.user(question), halo.assistant("Well")]

    assert draft.prompt("how many?") == [{"role": "user", "content": "Q: how many?"}]
    assert [message["role"] for message in chat.prompt("x")] == ["system", "user", "assistant"]


def test_options_that_cannot_be_are_all_told(line_of: LineOf) -> None:
    with pytest.raises(halo.LlmInvalid) as caught:

        @halo.llm(output=Connection, temperature="hot", max_tokens=1.5, stop=3, retries=-1, timeout=-1, sead=1)  # type: ignore[call-overload]
        async def call(question: str) -> str:  # here
            return question

    told = {problem.what: problem.fix for problem in caught.value.problems}
    assert {problem.where for problem in caught.value.problems} == {line_of("here")}
    assert told["`call` is an async or generator function"] == "write a plain def that returns the prompt"
    assert told["no model is named"] == '@halo.llm(model="qwen3-8b")'
    assert told["temperature is 'hot'"] == "give a number"
    assert told["max_tokens is 1.5"] == "give a whole number"
    assert told["stop is 3"] == 'give a text or a list of texts: stop=["\\n\\n"]'
    assert "there is no option 'sead'" in told
    assert any("Connection'> has no JSON schema" in what for what in told)


def test_figures_out_of_range() -> None:
    with pytest.raises(halo.LlmInvalid) as caught:
        draft.options(temperature=3, top_p=0, max_tokens=0, retries=11)
    assert {problem.what: problem.fix for problem in caught.value.problems} == {
        "temperature is 3.0": "use 0 to 2",
        "top_p is 0.0": "use a number above 0, at most 1",
        "max_tokens is 0": "use 1 or more",
        "retries is 11": "use 0 to 10",
    }


def test_options_inside_a_workflow_are_told_with_its_other_problems(line_of: LineOf) -> None:
    def ask(question: str) -> object:
        return draft.options(temperature=3)(question)  # here

    with pytest.raises(halo.WorkflowInvalid) as caught:
        halo.workflow(ask)
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        (line_of("here"), "temperature is 3.0")
    ]


def test_a_fallback_of_another_type() -> None:
    with pytest.raises(halo.LlmInvalid, match="fallback is 3, but the answer is a text"):
        draft.options(fallback=3)
    with pytest.raises(halo.LlmInvalid, match="fallback is of type object, which cannot be written as JSON"):
        draft.options(fallback=object())
