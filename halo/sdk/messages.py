"""Chat messages as users write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from halo.sdk.lower import lower
from halo.sdk.scope import Placed, Scope
from halo.sdk.text import concat
from planner.ir.expressions import Concat
from planner.ir.plan import Message as PlanMessage

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


#: What a prompt function returns: one user message, or a conversation so far.
Prompt = str | Sequence[Message]


def system(content: str) -> Message:
    return Message("system", content)


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str) -> Message:
    return Message("assistant", content)


def as_messages(prompt: Any) -> list[Message] | None:
    """The messages of a prompt; None when it is neither a text nor a list of messages."""
    if isinstance(prompt, str | Placed):
        return [Message("user", prompt)]  # type: ignore[arg-type]
    if not isinstance(prompt, list | tuple) or not prompt:
        return None
    if not all(isinstance(message, Message) and isinstance(message.content, str | Placed) for message in prompt):
        return None
    return list(prompt)


def lower_prompt(prompt: Any, scope: Scope, whose: str) -> tuple[PlanMessage, ...]:
    """The plan's messages. Reports a prompt that is none."""
    messages = as_messages(prompt)
    if messages is None:
        scope.trace.report(
            f"{whose} gives {_named(prompt)}, not a prompt",
            "give a text, or a list of halo.system(...), halo.user(...) and halo.assistant(...)",
        )
        return ()
    return tuple(PlanMessage(message.role, _content(message.content, scope)) for message in messages)


def _content(content: Any, scope: Scope) -> Concat:
    return concat([lower(content, scope)])


def _named(prompt: Any) -> str:
    if isinstance(prompt, list | tuple):
        kinds = {type(item).__name__: None for item in prompt}
        return f"a list of {', '.join(kinds)}" if kinds else "an empty list"
    return "nothing" if prompt is None else f"a {type(prompt).__name__}"
