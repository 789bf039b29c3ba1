"""A workflow that has every kind of stage, for tests that hold drivers against each other."""

from typing import Any

from pydantic import BaseModel, Field

import halo


class Plan(BaseModel):
    topics: list[str] = Field(min_length=1, max_length=3)
    urgent: bool


@halo.tool(effect="pure")
def facts_about(topic: str) -> dict[str, Any]:
    """What is known of a topic."""
    return {"topic": topic, "length": len(topic), "even": len(topic) % 2 == 0}


@halo.tool(effect="idempotent")
async def lookup(key: str = "") -> str:
    """Look something up."""
    return f"found {len(key)}"


@halo.llm(model="large", output=Plan, max_tokens=400)
def make_plan(question: str) -> str:
    return f"Which topics does this need? {question}"


@halo.llm(model="small", max_tokens=60, temperature=0.7, seed=3)
def write(topic: str, facts: dict[str, Any]) -> str:
    return f"Write about {topic}, knowing {facts}"


@halo.llm(model="small", max_tokens=40)
def shorten(text: str) -> str:
    return f"Shorten: {text}"


@halo.workflow
def every_kind(question: str, tone: str = "plain") -> dict[str, Any]:
    plan = make_plan(question)

    def about(topic: str) -> str:
        return write(topic, facts_about(topic))

    parts = halo.map(about, plan.topics)
    style = halo.choose(tone, cases={"plain": lambda: shorten(f"{parts}")}, otherwise=lambda: write(tone, {}))

    def again(state: Any) -> Any:
        text = shorten(state["text"])
        return {"text": text, "facts": facts_about(text)}

    short = halo.loop(
        again, {"text": style, "facts": facts_about(style)}, until=lambda s: s["facts"]["even"], max_rounds=3
    )
    found = halo.agent(f"Look things up about {question}", model="large", tools=[lookup], max_turns=3, max_tokens=50)
    return halo.join({"plan": plan, "parts": parts, "short": short, "found": found})
