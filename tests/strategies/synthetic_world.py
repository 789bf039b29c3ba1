"""The synthetic answers, for the reference interpreter: what it gives is what a live run must give."""

from collections.abc import Callable

from executor.engines.port import GenerateRequest
from executor.engines.synthetic import Synthetic
from planner.interpret import World
from planner.ir.conversation import Reply, tool_definitions
from planner.ir.plan import Agent, Generate, ToolSpec
from planner.ir.values import Json


class SyntheticWorld(World):
    def __init__(self, run_tool: Callable[[ToolSpec, dict[str, Json]], Json]) -> None:
        self._run_tool = run_tool

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        request = GenerateRequest(
            call_id=path,
            program="",
            model=stage.model,
            messages=tuple(messages),
            sampling=stage.sampling,
            schema=stage.schema if isinstance(stage, Generate) else None,
            tools=tuple(tool_definitions(stage.tools)) if isinstance(stage, Agent) else (),
            is_turn=isinstance(stage, Agent),
        )
        answer = Synthetic().answer(request)
        return Reply(answer.text, answer.tool_calls)

    def tool(self, path: str, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        return self._run_tool(spec, arguments)
