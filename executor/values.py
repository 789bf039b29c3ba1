"""What running programs know: the columns of their frames and the outputs of their nodes.

The core decides with ids and counts; this is where the values behind them are. It opens nothing and reads no clock, so
every driver uses it as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import blake2b

from executor.commands import (
    Decide,
    ForgetShared,
    KeepShared,
    OpenFrame,
    Prepare,
    Scope,
    Settle,
    TakeShared,
    UseFallback,
)
from executor.engines.port import Completion, Failure, FailureClass, GenerateRequest
from executor.events import CallFinished, Decided, NodeFailed, Prepared, Settled
from executor.prompt_blocks import prompt_blocks
from planner.interpret import StageFailed, agent_output, branch_body, check_items, choose_branch, tool_error
from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import (
    ArgumentsInvalid,
    Reply,
    ToolCall,
    Turn,
    continue_conversation,
    parse_arguments,
    render_messages,
    tool_definitions,
)
from planner.ir.evaluate import EvaluationFailed, evaluate, no_output
from planner.ir.expressions import Expr
from planner.ir.ids import ContentKey, NodeRef, ProgramId, StageId
from planner.ir.paths import branch_prefix, item_prefix, round_prefix, tool_path, turn_path
from planner.ir.plan import Agent, Body, Choose, Effect, Generate, Join, Loop, Map, Plan, Sampling, Tool, ToolSpec
from planner.ir.tokens import estimate_tokens
from planner.ir.values import Json, canonical_json, ordered_json

MAX_PROMPT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool ready to run."""

    spec: ToolSpec
    arguments: dict[str, Json]


class Values:
    """Values by program; a program's are forgotten when it ends."""

    def __init__(self) -> None:
        self._programs: dict[ProgramId, _Program] = {}
        self._shared: dict[ContentKey, Json] = {}

    def open_program(
        self, program: ProgramId, plan: Plan, columns: Mapping[str, Json], outputs: Mapping[str, Json] | None = None
    ) -> None:
        """A program begins; `outputs` are those an earlier process stored, by path."""
        self._programs[program] = _Program({"": _Frame(plan, columns)}, dict(outputs or {}))

    def forget_program(self, program: ProgramId) -> None:
        self._programs.pop(program, None)

    def apply(self, command: OpenFrame | KeepShared | TakeShared | ForgetShared | UseFallback) -> None:
        """Do what the command asks; it has no answer."""
        match command:
            case OpenFrame():
                self._programs[command.parent.program].open_frame(command)
            case KeepShared(node=node, key=key):
                self._shared[key] = self.output(node)
            case TakeShared(node=node, key=key):
                self._programs[node.program].outputs[node.path] = self._shared[key]
            case ForgetShared(key=key):
                self._shared.pop(key, None)
            case UseFallback():
                self._use_fallback(command)

    def answer(self, command: Prepare | Decide | Settle, at: float) -> Prepared | Decided | Settled | NodeFailed:
        """Do what the command asks. What the program's own values make impossible becomes `NodeFailed`."""
        program = self._programs[command.node.program]
        try:
            match command:
                case Prepare():
                    return program.prepare(command, at)
                case Decide():
                    return Decided(at, command.node, command.attempt, program.decide(command))
                case Settle():
                    program.outputs[command.node.path] = program.settle(command)
                    return Settled(at, command.node, command.attempt)
        except (EvaluationFailed, ArgumentsInvalid, StageFailed) as error:
            return NodeFailed(at, command.node, command.attempt, _own_fault(command.node, error))

    def call(self, node: NodeRef) -> GenerateRequest:
        """A prepared call; its `call_id` is not yet set."""
        request = self._programs[node.program].requests[node.path]
        assert isinstance(request, GenerateRequest)
        return request

    def request(self, node: NodeRef) -> GenerateRequest | ToolRequest:
        """What was prepared for the node."""
        return self._programs[node.program].requests[node.path]

    def keeps(self, key: ContentKey) -> bool:
        """Whether the output under that key is at hand."""
        return key in self._shared

    def tool(self, node: NodeRef) -> ToolRequest:
        request = self._programs[node.program].requests[node.path]
        assert isinstance(request, ToolRequest)
        return request

    def hand_over(self, node: NodeRef, heir: NodeRef) -> None:
        """What was prepared for `node` is `heir`'s from now on."""
        self._programs[heir.program].requests[heir.path] = self._programs[node.program].requests[node.path]

    def take_recalled(self, node: NodeRef, output: Json) -> tuple[str, ...]:
        """Keep what an earlier job gave for a prepared node: the tools an agent's reply asks for."""
        program = self._programs.get(node.program)
        if program is None:  # it ended while the answer was looked up
            return ()
        program.outputs[node.path] = output
        request = program.requests[node.path]
        is_turn = isinstance(request, GenerateRequest) and request.is_turn
        return tuple(call.name for call in _reply(output).tool_calls) if is_turn else ()

    def take_completion(
        self, node: NodeRef, attempt: int, completion: Completion, at: float
    ) -> CallFinished | NodeFailed:
        """Keep what the engine answered. What is not what was asked becomes `NodeFailed`."""
        request, outputs = self.call(node), self._programs[node.program].outputs
        if request.is_turn:
            outputs[node.path] = asdict(Reply(completion.text, completion.tool_calls))
            return CallFinished(at, node, attempt, completion.usage, tuple(call.name for call in completion.tool_calls))
        try:
            outputs[node.path] = parse_answer(completion.text, request.schema)
        except AnswerInvalid as error:
            cut = "; it was cut at max_tokens" if completion.finish_reason == "length" else ""
            failure = Failure(FailureClass.ANSWER, "invalid_answer", f"{node.path}: {error}{cut}")
            return NodeFailed(at, node, attempt, failure)
        return CallFinished(at, node, attempt, completion.usage)

    def take_tool_result(self, node: NodeRef, result: Json) -> None:
        self._programs[node.program].outputs[node.path] = result

    def _use_fallback(self, command: UseFallback) -> None:
        """The stage's own fallback, or for a tool an agent asked for, an error its model can read."""
        node, stage, failure = command.node, command.scope.stage, command.failure
        assert isinstance(stage, Generate | Tool | Agent)
        if node.path == command.scope.prefix + stage.id:
            assert stage.fallback is not None
            output = stage.fallback.value
        else:
            output = tool_error(f"{failure.code}: {failure.message}")
        self._programs[node.program].outputs[node.path] = output

    def recall(self, key: ContentKey, output: Json) -> None:
        """Keep under `key` what an earlier process stored."""
        self._shared[key] = output

    def output(self, node: NodeRef) -> Json:
        return self._programs[node.program].outputs[node.path]


@dataclass(slots=True)
class _Frame:
    """`columns` is None until somebody reads them: a body's bindings may fail, and then a node of it should."""

    plan: Plan
    columns: Mapping[str, Json] | None
    parent: Scope | None = None
    body: Body | None = None
    given: tuple[str, int] = ("", 0)  # the column the stage gives itself, and the index of its item or round


@dataclass(slots=True)
class _Program:
    frames: dict[str, _Frame]
    outputs: dict[str, Json]
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
        self.frames[command.prefix] = _Frame(body.plan, None, command.scope, body, given)

    def prepare(self, command: Prepare, at: float) -> Prepared:
        node, scope = command.node, command.scope
        match scope.stage:
            case Generate() as stage:
                messages = self._messages(scope)
                request = _call(node, stage, messages, schema=stage.schema)
            case Tool() as stage:
                return self._prepared_tool(command, at, stage.tool, self._value(scope, stage.arguments))
            case Agent() as stage if node.path == turn_path(self._path(scope), command.turn):
                messages = continue_conversation(self._messages(scope), self._turns(scope, command.turn))
                request = _call(node, stage, messages, tools=tuple(tool_definitions(stage.tools)), is_turn=True)
            case Agent() as stage:
                spec, arguments = parse_arguments(self._asked(command), stage.tools)
                return self._prepared_tool(command, at, spec, arguments)
            case _:
                raise AssertionError(f"{node} needs no preparing")
        self.requests[node.path] = request
        prompt = canonical_json(request.messages)
        _check_size(node, prompt)
        key = _call_key(request, prompt) if request.sampling.fixed else None
        blocks = prompt_blocks(request.model, request.messages, request.tools)
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
                last = _reply(self.outputs[turn_path(self._path(scope), parts - 1)])
                return agent_output(last.text, parts, "max_turns" if last.tool_calls else "answered")
        raise AssertionError(f"{command.node} has nothing to settle")

    def _prepared_tool(self, command: Prepare, at: float, spec: ToolSpec, arguments: dict[str, Json]) -> Prepared:
        text = canonical_json(arguments)
        _check_size(command.node, text)
        self.requests[command.node.path] = ToolRequest(spec, arguments)
        key = ContentKey(_digest("tool", spec.name, text)) if spec.effect is Effect.PURE else None
        return Prepared(at, command.node, command.attempt, key)

    def _messages(self, scope: Scope) -> list[Json]:
        assert isinstance(scope.stage, Generate | Agent)
        return render_messages(scope.stage.messages, self._columns(scope.prefix), self._outputs(scope.prefix))

    def _turns(self, scope: Scope, turns: int) -> list[Turn]:
        return [self._turn(self._path(scope), turn) for turn in range(turns)]

    def _turn(self, agent: str, turn: int) -> Turn:
        reply = _reply(self.outputs[turn_path(agent, turn)])
        results = tuple(self.outputs[tool_path(agent, turn, index)] for index in range(len(reply.tool_calls)))
        return Turn(reply, results)

    def _asked(self, command: Prepare) -> ToolCall:
        """The tool call an agent's turn made that this node is to run."""
        reply = _reply(self.outputs[turn_path(self._path(command.scope), command.turn)])
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

    def _bind(self, frame: _Frame) -> dict[str, Json]:
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


def _reply(output: Json) -> Reply:
    return Reply(output["text"], tuple(ToolCall(**call) for call in output["tool_calls"]))


def _call(
    node: NodeRef,
    stage: Generate | Agent,
    messages: list[Json],
    *,
    schema: Json = None,
    tools: tuple[Json, ...] = (),
    is_turn: bool = False,
) -> GenerateRequest:
    return GenerateRequest(
        call_id="",
        program=node.program,
        model=stage.model,
        messages=tuple(messages),
        sampling=stage.sampling,
        schema=schema,
        tools=tools,
        timeout_s=stage.timeout_s,
        is_turn=is_turn,
    )


#: What most calls ask for beside their prompt.
_PLAIN = ordered_json([None, [], False])


def _call_key(request: GenerateRequest, prompt: str) -> ContentKey:
    """Equal keys, equal answers: everything the engine sees is in it, and whether the answer is taken as a turn's."""
    plain = request.schema is None and not request.tools and not request.is_turn
    asked = _PLAIN if plain else ordered_json([request.schema, request.tools, request.is_turn])
    return ContentKey(_digest("call", request.model, _sampling_text(request.sampling), asked, prompt))


@lru_cache(maxsize=1024)
def _sampling_text(sampling: Sampling) -> str:
    return canonical_json(asdict(sampling))


def _digest(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _check_size(node: NodeRef, text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass")) if len(text) * 4 > MAX_PROMPT_BYTES else len(text)
    if size > MAX_PROMPT_BYTES:
        raise StageFailed(
            "prompt_too_large", f"the prompt of {node.path!r} has {size:,} bytes; at most {MAX_PROMPT_BYTES:,} are sent"
        )


def _own_fault(node: NodeRef, error: EvaluationFailed | ArgumentsInvalid | StageFailed) -> Failure:
    match error:
        case StageFailed(code=code, message=message):
            return Failure(FailureClass.ROW, code, message)
        case ArgumentsInvalid():
            return Failure(FailureClass.ROW, "invalid_arguments", str(error))
        case _:
            return Failure(FailureClass.ROW, "bad_value", f"{node.path or 'the result'}: {error}")


def load_outputs(saved: Mapping[str, str]) -> dict[str, Json]:
    """Stored outputs, by path, as values."""
    return {path: json.loads(text) for path, text in saved.items()}
