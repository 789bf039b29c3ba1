"""Chat messages as engines take them: from a stage's segments, and from the turns of an agent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.ir.evaluate import evaluate, format_value
from planner.ir.ids import StageId
from planner.ir.plan import Message, ToolSpec
from planner.ir.values import Json, parse_json


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asks for. `arguments` is the text the model wrote: JSON if it wrote well."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered: text, tools it wants run, or both."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A finished turn of an agent: the reply, and what each tool it asked for gave back."""

    reply: Reply
    results: tuple[Json, ...]


class ArgumentsInvalid(Exception):
    """A model asked for a tool that does not exist, or wrote arguments that are not a JSON object."""


def render_messages(
    messages: Iterable[Message], columns: Mapping[str, Json], output: Callable[[StageId], Json]
) -> list[Json]:
    """OpenAI chat messages with every segment filled in."""
    return [{"role": m.role, "content": evaluate(m.content, columns, output)} for m in messages]


def continue_conversation(opening: Sequence[Json], turns: Iterable[Turn]) -> list[Json]:
    """The messages of an agent's next call: the opening, then each reply followed by its tools' results."""
    messages = list(opening)
    for turn in turns:
        messages.append(_assistant_message(turn.reply))
        for call, result in zip(turn.reply.tool_calls, turn.results, strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": format_value(result)})
    return messages


def tool_definitions(tools: Iterable[ToolSpec]) -> list[Json]:
    """OpenAI tool definitions."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def tool_call_messages(calls: Iterable[ToolCall]) -> list[Json]:
    """Tool calls as they stand in an assistant's OpenAI chat message."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def parse_arguments(call: ToolCall, tools: Sequence[ToolSpec]) -> tuple[ToolSpec, dict[str, Json]]:
    """The tool a model asks for and its arguments. Raises `ArgumentsInvalid` with a text the model can learn from."""
    spec = next((tool for tool in tools if tool.name == call.name), None)
    if spec is None:
        known = ", ".join(tool.name for tool in tools)
        raise ArgumentsInvalid(f"there is no tool {call.name!r}; the tools are: {known}")
    try:
        arguments = parse_json(call.arguments or "{}")
    except ValueError as error:
        raise ArgumentsInvalid(f"the arguments of {call.name} are not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ArgumentsInvalid(f"the arguments of {call.name} must be a JSON object")
    return spec, arguments


def _assistant_message(reply: Reply) -> Json:
    message: dict[str, Json] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = tool_call_messages(reply.tool_calls)
    return message


def _function(tool: ToolSpec) -> Json:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}
