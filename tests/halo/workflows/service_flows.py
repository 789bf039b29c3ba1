"""Small workflows for the tests of the service and the worker."""

import os
import time
from pathlib import Path

from pydantic import BaseModel, Field

import halo


class Mood(BaseModel):
    word: str = Field(max_length=40)
    strength: int = Field(ge=1, le=5)


@halo.tool(effect="pure")
def shout(text: str) -> str:
    """The text in capitals."""
    return text.upper()


@halo.tool(effect="pure", retries=0)
def refuse(text: str) -> str:
    """It always fails."""
    raise ValueError(f"no {text} today")


@halo.tool(effect="pure")
def count(folder: str, line: str) -> str:
    """Writes down that it was called, at once."""
    with (Path(folder) / f"calls-{os.getpid()}.txt").open("a") as file:
        file.write(line + "\n")
    return line


@halo.tool(effect="idempotent", timeout="600s")
def linger(folder: str, line: str, after: str) -> str:
    """Works until it is told to end, by a file, and says before that it does."""
    with (Path(folder) / f"lingering-{os.getpid()}.txt").open("a") as file:
        file.write(line + "\n")
    while not (Path(folder) / "enough").exists():
        time.sleep(0.05)
    return f"{after} done"


@halo.llm(model="small", max_tokens=64, output=Mood)
def feel(text: str) -> str:
    return f"How does this sound? {text}"


@halo.workflow
def greet(name: str, greeting: str = "hello") -> dict[str, object]:
    """One LLM call and one tool."""
    return {"said": shout(f"{greeting} {name}"), "mood": feel(name)}


@halo.workflow
def fail(text: str) -> str:
    return refuse(text)


@halo.workflow
def two_steps(folder: str, name: str) -> str:
    """A step that is soon done, and one after it that takes until it is told to end."""
    return linger(folder, name, count(folder, name))
