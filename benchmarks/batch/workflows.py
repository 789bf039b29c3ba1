"""Workflows that cost next to nothing themselves, so that what is measured is Halo."""

from typing import Any

import halo
from executor.engines.port import GenerateRequest

MODEL = "bench"


def answer(request: GenerateRequest) -> str:
    """What the scripted engine answers: at once, and short."""
    return "an answer of some words, as short answers are"


@halo.tool(effect="pure")
def measure(text: str) -> int:
    return len(text)


@halo.llm(model=MODEL, max_tokens=32)
def step(text: str, before: str) -> str:
    return f"You answer in one sentence.\nKnown: {before}\nQuestion: {text}"


@halo.workflow
def one_call(question: str) -> str:
    return step(question, "nothing")


@halo.workflow
def chain(question: str) -> str:
    """Four calls, one after the other."""
    found: Any = "nothing"
    for number in range(4):
        found = step(f"{question} ({number})", found)
    return found


@halo.workflow
def wide(question: str) -> dict[str, Any]:
    """Four calls side by side and two tools."""
    drafts = [step(f"{question} ({number})", "nothing") for number in range(4)]
    return {"drafts": drafts, "asked": measure(question), "answered": measure(drafts[0])}
