"""What one running program knows: the columns of its frames, its nodes' outputs, and what was prepared for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from executor.commands import Decide, OpenFrame, Prepare, Scope, Settle
from executor.engines.port import GenerateRequest
from executor.events import Prepared
from executor.prompt_blocks import prompt_blocks
from executor.requests import ToolRequest, call_key, check_size, generate_request, tool_key
from planner.interpret import agent_output, branch_body, check_items, choose_branch
from planner.ir.conversation import (
    Reply,
    ToolCall,
    Turn,
    continue_conversation,
    parse_arguments,
    render_messages,
    tool_definitions,
)
from planner.ir.evaluate import evaluate, no_output
from planner.ir.expressions import Expr
from planner.ir.ids import StageId
from planner.ir.paths import branch_prefix, item_prefix, round_prefix, tool_path, turn_path
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Tool, ToolSpec
from planner.ir.tokens import estimate_tokens
from planner.ir.values import Json, canonical_json


@dataclass(slots=True)
class Frame:
    """`columns` is None until somebody reads them: a body's bindings may fail, and then a node of it should."""

    plan: Plan
    columns: Mapping[str, Json] | None
    parent: Scope | None = None
    body: Body | None = None
    given: tuple[str, int] = ("", 0)  # the column the stage gives itself, and the index of its item or round


@dataclass(slots=True)
class ProgramValues:
    """Frames by prefix, outputs and prepared requests by path.

    Preparing, deciding and settling raise `EvaluationFailed`, `ArgumentsInvalid` or `StageFailed` where the program's
    own values make them impossible.
    """

    frames: dict[str, Frame]
    outputs: dict[str, Json]
    cache_salt: str = ""
    requests: dict[str, GenerateRequest | ToolRequest] = field(default_factory=dict)

    def open_frame(self, command: OpenFrame) -> None:
        match command.scope.stage:
            case Choose() as stage:
                body, given = branch_body(stage, command.branch), ("", 0)
            case Map() as stage:
                body, given = stage.body, ("item", command.branch)
            case Loop() as stage:
                body, given = stage.body, ("state", command.branch)
            case _:
                raise AssertionError(f"{command.parent} has no bodies")
        self.frames[command.prefix] = Frame(body.plan, None, command.scope, body, given)

    def prepare(self, command: Prepare, at: float) -> Prepared:
        node, scope = command.node, command.scope
        match scope.stage:
            case Generate() as stage:
                messages = self._messages(scope)
                request = generate_request(node, stage, messages, schema=stage.schema)
            case Tool() as stage:
                return self._prepared_tool(command, at, stage.tool, self._value(scope, stage.arguments))
            case Agent() as stage if node.path == turn_path(self._path(scope), command.turn):
                messages = continue_conversation(self._messages(scope), self._turns(scope, command.turn))
                request = generate_request(
                    node, stage, messages, tools=tuple(tool_definitions(stage.tools)), is_turn=True
                )
            case Agent() as stage:
                spec, arguments = parse_arguments(self._asked(command), stage.tools)
                return self._prepared_tool(command, at, spec, arguments)
            case _:
                raise AssertionError(f"{node} needs no preparing")
        self.requests[node.path] = request
        prompt = canonical_json(request.messages)
        check_size(node, prompt)
        key = call_key(request, prompt) if request.sampling.fixed else None
        blocks = prompt_blocks(request.model + self.cache_salt, request.messages, request.tools)
        tokens, most = estimate_tokens(prompt), request.sampling.max_tokens
        return Prepared(at, node, command.attempt, key, tokens, most, blocks)

    def decide(self, command: Decide) -> int:
        scope = command.scope
        match scope.stage:
            case Choose() as stage:
                return choose_branch(stage, self._value(scope, stage.value))
            case Map() as stage:
                return len(check_items(stage, self._value(scope, stage.over)))
            case Loop() as stage:
                return int(bool(evaluate(stage.until, {"state": self._state(scope, command.done)}, no_output)))
        raise AssertionError(f"{command.node} has nothing to decide")

    def settle(self, command: Settle) -> Json:
        scope, parts = command.scope, command.parts
        match scope.stage:
            case None:
                return self._result(scope.prefix)
            case Join() as stage:
                return self._value(scope, stage.value)
            case Choose():
                return self._result(branch_prefix(self._path(scope), parts))
            case Map():
                return [self._result(item_prefix(self._path(scope), index)) for index in range(parts)]
            case Loop():
                return self._state(scope, parts)
            case Agent() as stage:
                last = reply_of(self.outputs[turn_path(self._path(scope), parts - 1)])
                return agent_output(last.text, parts, "max_turns" if last.tool_calls else "answered")
        raise AssertionError(f"{command.node} has nothing to settle")

    def _prepared_tool(self, command: Prepare, at: float, spec: ToolSpec, arguments: dict[str, Json]) -> Prepared:
        text = canonical_json(arguments)
        check_size(command.node, text)
        self.requests[command.node.path] = ToolRequest(spec, arguments)
        return Prepared(at, command.node, command.attempt, tool_key(spec, text))

    def _messages(self, scope: Scope) -> list[Json]:
        assert isinstance(scope.stage, Generate | Agent)
        return render_messages(scope.stage.messages, self._columns(scope.prefix), self._outputs(scope.prefix))

    def _turns(self, scope: Scope, turns: int) -> list[Turn]:
        return [self._turn(self._path(scope), turn) for turn in range(turns)]

    def _turn(self, agent: str, turn: int) -> Turn:
        reply = reply_of(self.outputs[turn_path(agent, turn)])
        results = tuple(self.outputs[tool_path(agent, turn, index)] for index in range(len(reply.tool_calls)))
        return Turn(reply, results)

    def _asked(self, command: Prepare) -> ToolCall:
        """The tool call an agent's turn made that this node is to run."""
        reply = reply_of(self.outputs[turn_path(self._path(command.scope), command.turn)])
        return reply.tool_calls[int(command.node.path.rpartition("/")[2])]

    def _state(self, scope: Scope, rounds: int) -> Json:
        """A loop's state after so many rounds."""
        assert isinstance(scope.stage, Loop)
        if not rounds:
            return self._value(scope, scope.stage.initial)
        return self._result(round_prefix(self._path(scope), rounds - 1))

    def _result(self, prefix: str) -> Json:
        frame = self.frames[prefix]
        return evaluate(frame.plan.result, self._columns(prefix), self._outputs(prefix))

    def _columns(self, prefix: str) -> Mapping[str, Json]:
        frame = self.frames[prefix]
        if frame.columns is None:
            frame.columns = self._bind(frame)
        return frame.columns

    def _bind(self, frame: Frame) -> dict[str, Json]:
        assert frame.parent is not None
        assert frame.body is not None
        columns = {binding.name: self._value(frame.parent, binding.value) for binding in frame.body.bindings}
        column, index = frame.given
        if column == "item":
            assert isinstance(frame.parent.stage, Map)
            columns["item"] = self._value(frame.parent, frame.parent.stage.over)[index]
        elif column == "state":
            columns["state"] = self._state(frame.parent, index)
        return columns

    def _value(self, scope: Scope, expr: Expr) -> Json:
        return evaluate(expr, self._columns(scope.prefix), self._outputs(scope.prefix))

    def _outputs(self, prefix: str) -> "_Outputs":
        return _Outputs(self.outputs, prefix)

    def _path(self, scope: Scope) -> str:
        assert scope.stage is not None
        return scope.prefix + scope.stage.id


@dataclass(frozen=True, slots=True)
class _Outputs:
    """The outputs of one frame's stages."""

    outputs: Mapping[str, Json]
    prefix: str

    def __call__(self, stage: StageId) -> Json:
        return self.outputs[self.prefix + stage]


def reply_of(output: Json) -> Reply:
    """What a model answered in an agent's turn, from that turn's output."""
    return Reply(output["text"], tuple(ToolCall(**call) for call in output["tool_calls"]))
