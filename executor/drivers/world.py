"""What happens in a simulation where it leaves Halo: what calls are answered, and what tools give and when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from executor.engines.answers import Answer, Answers
from executor.engines.port import GenerateRequest
from executor.tools import ToolRunner
from planner.ir.ids import NodeRef
from planner.ir.plan import ToolSpec
from planner.ir.values import Json


class World(Protocol):
    """What calls and tools give. Bodies: `ToolsRun`, and `Foreseen`, which asks nobody."""

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        """Raises `EngineFailed` where there is no answer to give."""
        ...

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        """What the tool gives, and after how many seconds. Raises `ToolFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class ToolsRun:
    """Tools are really run, and said to have taken `tool_seconds`."""

    answers: Answers
    tools: ToolRunner
    tool_seconds: Callable[[ToolSpec], float]

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        return self.answers.answer(request)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        return await self.tools.run(spec, arguments), self.tool_seconds(spec)
