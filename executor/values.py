"""What running programs know: the columns of their frames and the outputs of their nodes.

The core decides with ids and counts; this is where the values behind them are. It opens nothing and reads no clock, so
every driver uses it as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from executor.commands import (
    Decide,
    ForgetShared,
    KeepShared,
    OpenFrame,
    Prepare,
    Settle,
    TakeShared,
    UseFallback,
)
from executor.engines.port import Completion, Failure, FailureClass, GenerateRequest
from executor.events import CallFinished, Decided, NodeFailed, Prepared, Settled
from executor.program_values import Frame, ProgramValues, reply_of
from executor.requests import ToolRequest
from planner.interpret import StageFailed, tool_error
from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import ArgumentsInvalid, Reply
from planner.ir.evaluate import EvaluationFailed
from planner.ir.ids import ContentKey, NodeRef, ProgramId
from planner.ir.plan import Agent, Generate, Plan, Tool
from planner.ir.values import Json


class Values:
    """Values by program; a program's are forgotten when it ends."""

    def __init__(self) -> None:
        self._programs: dict[ProgramId, ProgramValues] = {}
        self._shared: dict[ContentKey, Json] = {}

    def open_program(
        self,
        program: ProgramId,
        plan: Plan,
        columns: Mapping[str, Json],
        outputs: Mapping[str, Json] | None = None,
        cache_salt: str = "",
    ) -> None:
        """A program begins; `outputs` are those an earlier process stored, by path. Prompts of another `cache_salt` are
        never warm for it."""
        self._programs[program] = ProgramValues({"": Frame(plan, columns)}, dict(outputs or {}), cache_salt)

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
        return tuple(call.name for call in reply_of(output).tool_calls) if is_turn else ()

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
