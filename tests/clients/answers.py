"""What the engine behind the gateway says to real clients: enough for each to come to its end."""

import json
import os
from pathlib import Path

from executor.engines.answers import Answer
from executor.engines.port import GenerateRequest
from planner.ir.conversation import ToolCall

#: What an agent does in a small repository whose test fails.
STEPS = (
    "cat calc.py",
    "sed -i 's/a - b/a + b/' calc.py",
    "python -m unittest -q",
    "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",
)


def answer(request: GenerateRequest) -> Answer:
    """An agent gets the next step, by tool call where it offers tools, as a block of shell where it asks for one."""
    _note(request)
    turn = sum(1 for message in request.messages if message["role"] == "assistant")
    tools = [tool["function"]["name"] for tool in request.tools]
    if "bash" in tools:
        return _asked("bash", {"command": STEPS[min(turn, len(STEPS) - 1)]}, turn)
    if tools and turn == 0:
        return _asked(tools[0], {"city": "Paris"}, turn)
    if "mswea_bash_command" in str(request.messages):
        return Answer(f"THOUGHT: on I go.\n\n```mswea_bash_command\n{STEPS[min(turn, len(STEPS) - 1)]}\n```")
    return Answer(f"This is answer {turn}.")


def _asked(tool: str, arguments: dict[str, str], turn: int) -> Answer:
    return Answer("I use a tool.", (ToolCall(f"call_{turn}", tool, json.dumps(arguments)),))


def _note(request: GenerateRequest) -> None:
    with Path(os.environ["HALO_TEST_CALLS"]).open("a") as calls:
        calls.write(json.dumps({"program": request.program, "messages": len(request.messages)}) + "\n")
