"""A workflow for the tests of the batch runner: a shared tool, two calls, and a tool that does what it is told."""

import asyncio
from typing import Any

import halo

MODEL = "test-model"


@halo.tool(effect="pure", timeout="10m")
def measure(text: str) -> int:
    return len(text)


@halo.tool(effect="idempotent", timeout="0.3s")
async def act(text: str) -> Any:
    """Misbehaves where the text asks for it."""
    match text.rpartition(" ")[2]:
        case "raise":
            raise ValueError("told to")
        case "hang":
            await asyncio.sleep(60)
        case "flood":
            return "x" * (2 * 1024 * 1024)
        case "unserialisable":
            return object()
        case "long-prompt":
            return "word " * 20_000
    return text


@halo.llm(model=MODEL, max_tokens=32)
def topic(text: str) -> str:
    return f"Name the topic of: {text}"


@halo.llm(model=MODEL, max_tokens=64, temperature=0.9)
def reply(text: str, about: str, done: Any) -> str:
    return f"Reply to '{text}', which is about {about}. Known: {done}"


@halo.workflow
def triage(question: str, times: int = 1) -> dict[str, Any]:
    """Says what a question is about, and replies to it."""
    about = topic(question)
    return {
        "topic": about,
        "length": measure(question),
        "times": times,
        "reply": reply(question, about, act(question)),
    }
