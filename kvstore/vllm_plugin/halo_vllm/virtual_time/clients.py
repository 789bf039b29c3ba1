"""How clients of the engine differ in what they tell it."""

from collections.abc import Mapping, Sequence
from typing import Any

from halo_vllm.virtual_time.programs import Program


class Silent:
    """Tells nothing, as any OpenAI client."""

    def call(self, program: Program, turn: int) -> Mapping[str, Any]:
        return {}

    def after(self, program: Program, turn: int) -> Sequence[Mapping[str, Any]]:
        return ()

    def before(self, program: Program, turn: int) -> Sequence[Mapping[str, Any]]:
        return ()


class Prioritised(Silent):
    """Orders its programs by arrival with vLLM's own `priority`."""

    def call(self, program: Program, turn: int) -> Mapping[str, Any]:
        return {"priority": int(1000 * program.arrival_s)}


class Named(Silent):
    """Names its programs, and says when one is over."""

    def call(self, program: Program, turn: int) -> Mapping[str, Any]:
        last = {"halo_last": 1} if turn == len(program.turns) - 1 else {}
        return {"hints": {"halo_program": program.key, **last}}


class NamedWithTools(Named):
    """Names its programs, and tells what tool runs as soon as the answer is there."""

    def after(self, program: Program, turn: int) -> Sequence[Mapping[str, Any]]:
        if turn == len(program.turns) - 1:
            return ()
        return ({"program": program.key, "event": "tool_called", "halo_tool": program.turns[turn].tool},)


class Clairvoyant(Named):
    """Names its programs, and knows how long each pause will be."""

    def call(self, program: Program, turn: int) -> Mapping[str, Any]:
        hints = super().call(program, turn)["hints"]
        return {"hints": {**hints, "halo_eta_s": program.turns[turn].pause_s}}
