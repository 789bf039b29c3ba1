"""The SDK against the real CPU vLLM: the model's text is nonsense, the path is real."""

import pytest
from pydantic import BaseModel, Field

import halo
from executor.engines.local_vllm import LocalVllm

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]


class Draft(BaseModel):
    sql: str = Field(max_length=20)
    limit: int = Field(ge=0, le=9)


@halo.llm(model="tiny-llama", output=Draft, max_tokens=96, seed=3, temperature=0.7)
def draft(question: str) -> list[halo.Message]:
    return [halo.system("You write SQL."), halo.user(question)]


@halo.llm(model="tiny-llama", max_tokens=8)
def name(sql: str) -> str:
    return f"Name this query: {sql}"


@halo.tool(effect="pure")
def length(text: str) -> int:
    return len(text)


@halo.workflow
def ask(question: str) -> Draft:
    first = draft(question)
    name(first.sql)
    return first


@halo.workflow
def solve(question: str) -> object:
    return halo.agent(question, model="tiny-llama", tools=[length], max_turns=2, max_tokens=8)


def test_an_inline_run_with_guided_json(real_engine: LocalVllm) -> None:
    url = real_engine.spec.url
    assert isinstance(ask.run(question="How many singers?", engine=url), Draft)


def test_an_inline_agent_offers_its_tools(real_engine: LocalVllm) -> None:
    answer = solve.run(question="How long is 'abc'?", engine=f"{real_engine.spec.url}/v1")
    assert isinstance(answer, dict)
    assert answer["stopped"] in {"answered", "max_turns"}


def test_a_job_over_the_same_engine(real_engine: LocalVllm) -> None:
    answers = ask.map([{"question": f"How many singers in {year}?"} for year in range(3)]).run(
        engines=real_engine.spec.url
    )
    assert all(isinstance(answer, Draft) for answer in answers)


def test_a_model_the_engine_does_not_serve_is_told(real_engine: LocalVllm) -> None:
    other = name.options(model="other")

    @halo.workflow
    def wrong(question: str) -> str:
        return other(question)

    with pytest.raises(halo.RunFailed, match=r"engine_refused: .* answered 404: .*other"):
        wrong.run(question="x", engine=real_engine.spec.url)
