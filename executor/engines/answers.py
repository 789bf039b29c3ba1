"""Who makes the text of engines that compute nothing (`scripted`, `modelled`).

An answer is a function of its request: the same request, the same answer, in any process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from executor.engines.failures import failed
from executor.engines.port import Completion, EngineFailed, FailureClass, GenerateRequest, Usage
from planner.ir.conversation import ToolCall
from planner.ir.tokens import CHARS_PER_TOKEN, estimate_tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """`output_tokens` where it is known (a recorded answer); else it is estimated from the text."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    output_tokens: int | None = None


class Answers(Protocol):
    """Bodies: `Recorded`, `Synthetic`, `FromFunction`. Raises `EngineFailed` where there is no answer to give."""

    def answer(self, request: GenerateRequest) -> Answer: ...


class FromFunction:
    """The answers of a plain function `request -> Answer | str`.

    Whatever the function raises fails the call as the row's own fault: asked again, it would do the same.
    """

    def __init__(self, function: Callable[[GenerateRequest], Answer | str]) -> None:
        self._function = function

    def answer(self, request: GenerateRequest) -> Answer:
        try:
            given = self._function(request)
        except EngineFailed:
            raise
        except Exception as problem:  # foreign code: whatever it does must end as a failed call
            raise no_answer("answer_failed", f"the answering function raised {problem!r}") from problem
        if isinstance(given, str):
            return Answer(given)
        if not isinstance(given, Answer):
            raise no_answer("answer_failed", f"the answering function gave {type(given).__name__}, not text")
        return given


def no_answer(code: str, message: str) -> EngineFailed:
    """The failure of a request that nothing can be answered to."""
    return failed(FailureClass.ROW, code, message)


def completion_of(request: GenerateRequest, answer: Answer, prompt_tokens: int) -> Completion:
    """The answer as an engine would give it: cut at a stop word, and at `max_tokens`."""
    text = _until_stop(answer.text, request.sampling.stop)
    tokens = _output_tokens(answer, text)
    if tokens > request.sampling.max_tokens:
        return _cut(request.sampling.max_tokens, text, prompt_tokens)
    reason = "tool_calls" if answer.tool_calls else "stop"
    return Completion(text, Usage(prompt_tokens, tokens), answer.tool_calls, reason)


def _cut(max_tokens: int, text: str, prompt_tokens: int) -> Completion:
    """Tool calls go with the cut: half an argument is no argument."""
    return Completion(text[: max_tokens * CHARS_PER_TOKEN], Usage(prompt_tokens, max_tokens), (), "length")


def _output_tokens(answer: Answer, text: str) -> int:
    if answer.output_tokens is not None and text is answer.text:
        return answer.output_tokens
    called = sum(estimate_tokens(call.name + call.arguments) for call in answer.tool_calls)
    return max(1, estimate_tokens(text) + called)


def _until_stop(text: str, stop: tuple[str, ...]) -> str:
    found = [place for word in stop if word and (place := text.find(word)) >= 0]
    return text[: min(found)] if found else text
