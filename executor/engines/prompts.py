"""What a prompt looks like to an engine that has no tokenizer: text, its estimated tokens, and its limits."""

from collections.abc import Sequence

from executor.engines.failures import failed
from executor.engines.port import EngineSpec, FailureClass, GenerateRequest
from planner.ir.values import Json, canonical_json


def prompt_text(messages: Sequence[Json], tools: Sequence[Json] = ()) -> str:
    """Stands for a chat template: the tools, then each message under its role.

    A conversation that goes on begins with the text of the one before, up to and with the answer it got.
    """
    parts = [f"<tools>{canonical_json(list(tools))}"] if tools else []
    parts.extend(_message_text(message) for message in messages)
    parts.append("<assistant>")
    return "".join(parts)


def answer_text(text: str, tool_calls: Sequence[Json] = ()) -> str:
    """How an answer stands in the prompt of the turn after it."""
    return f"{text}{canonical_json(list(tool_calls))}" if tool_calls else text


def checked_prompt_tokens(spec: EngineSpec, request: GenerateRequest, tokens: int, context_tokens: int) -> int:
    """The estimated `tokens` of the prompt, where the engine would take it.

    Raises `EngineFailed` as a real engine does: for a model it does not serve, and for a prompt that leaves no room
    for the answer asked for.
    """
    if request.model not in spec.served:
        message = f"engine {spec.id} does not serve {request.model!r}; it serves {', '.join(spec.served) or 'nothing'}"
        raise failed(FailureClass.ENGINE, "wrong_model", message)
    if tokens + request.sampling.max_tokens > context_tokens:
        message = (
            f"the prompt (about {tokens} tokens) and the answer (up to {request.sampling.max_tokens}) "
            f"exceed the context of {context_tokens} tokens"
        )
        raise failed(FailureClass.ROW, "prompt_too_long", message)
    return tokens


def _message_text(message: Json) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else "" if content is None else canonical_json(content)
    return f"<{message['role']}>{answer_text(text, message.get('tool_calls') or ())}"
