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
