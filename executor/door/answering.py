"""An answer in OpenAI's shape as it comes in, whole or in parts: what the door needs to know of it."""

from collections.abc import Mapping

from executor.engines.port import Usage
from planner.ir.values import Json

_MOST_TOKENS = 2**31 - 1


class AnswerSoFar:
    """Of several choices, the first is what the client goes on from, as far as can be known."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.token_ids: list[int] | None = None
        self._content: list[str] = []
        self._tool_calls: dict[int, dict[str, Json]] = {}

    @property
    def message(self) -> Json:
        message: dict[str, Json] = {"role": "assistant", "content": "".join(self._content)}
        if self._tool_calls:
            message["tool_calls"] = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        return message

    def add(self, part: Mapping[str, Json]) -> None:
        """A whole answer, or one chunk of a stream. What is not as OpenAI has it is passed over."""
        if isinstance(part.get("usage"), dict):
            self.usage = _usage(part["usage"])
        for choice in part.get("choices") or ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._add_choice(choice)

    def _add_choice(self, choice: Json) -> None:
        said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        if isinstance(said.get("content"), str):
            self._content.append(said["content"])
        for position, call in enumerate(said.get("tool_calls") or ()):
            self._add_tool_call(call.get("index", position), call)
        ids = choice.get("token_ids")
        if isinstance(ids, list):
            self.token_ids = [*(self.token_ids or ()), *ids]

    def _add_tool_call(self, index: int, part: Json) -> None:
        empty: dict[str, Json] = {"function": {"name": "", "arguments": ""}}
        function = self._tool_calls.setdefault(index, empty)["function"]
        for name in ("name", "arguments"):
            function[name] += (part.get("function") or {}).get(name) or ""


def _usage(told: Mapping[str, Json]) -> Usage:
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_tokens(told.get("prompt_tokens")), _tokens(told.get("completion_tokens")), _tokens(cached))


def _tokens(told: Json) -> int:
    return told if isinstance(told, int) and 0 <= told <= _MOST_TOKENS else 0
