"""What a client tells the engine of a program, for each way of telling.

The names are those that `halo_vllm` reads; `session_id` is also vLLM's own, and Halo's door goes by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from benchmarks.kv.programs import Program

#: Where the plugin's endpoint listens.
HINT_PATH = "/halo/hint"


class Words(StrEnum):
    """`NOTHING`; `ID`: which program this is; `TOOL`: also which tool the answer calls, and which turn is the last;
    `TRUTH`: also how long that tool will take, which only an oracle knows."""

    NOTHING = "nothing"
    ID = "id"
    TOOL = "tool"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class Telling:
    """`words` go with each request (`vllm_xargs`); with `after`, the tool is told when the answer is there instead.

    With `priority`, a request also carries its program's arrival as vLLM's own priority.
    """

    words: Words = Words.NOTHING
    after: bool = False
    priority: bool = False


def fields_for(program: Program, number: int, arrival_s: float, telling: Telling, salt: str) -> Mapping[str, Any]:
    """What joins the body of the request for a turn."""
    fields: dict[str, Any] = {"priority": round(arrival_s * 1000)} if telling.priority else {}
    if telling.words is Words.NOTHING or not program.hinted:
        return fields
    told: dict[str, Any] = {"session_id": f"{salt}/{program.id}"}
    if telling.words is not Words.ID and not telling.after:
        told |= _tool(program, number, telling)
    return fields | {"vllm_xargs": told}


def notes_after(program: Program, number: int, telling: Telling, salt: str) -> Sequence[dict[str, Any]]:
    """What is told, and where, once the answer of a turn is there."""
    if not telling.after or telling.words in (Words.NOTHING, Words.ID) or not program.hinted:
        return ()
    event = "last_step" if _is_last(program, number) else "tool_called"
    body = {"program": f"{salt}/{program.id}", "event": event} | _tool(program, number, telling)
    return ({"path": HINT_PATH, "body": body},)


def _tool(program: Program, number: int, telling: Telling) -> dict[str, Any]:
    """A shell's argument class goes as its command: the plugin takes the class of that, which is itself."""
    turn = program.turns[number]
    if _is_last(program, number):
        return {"halo_last": 1}
    told: dict[str, Any] = {"halo_tool": turn.tool} if turn.tool else {}
    told |= {"halo_tool_arguments": turn.argument_class} if turn.argument_class else {}
    return told | ({"halo_eta_s": turn.pause_s} if telling.words is Words.TRUTH else {})


def _is_last(program: Program, number: int) -> bool:
    return number == len(program.turns) - 1
