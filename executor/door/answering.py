"""An answer in OpenAI's shape as it comes in, whole or in parts: what the door needs to know of it."""

from collections.abc import Mapping

from executor.engines.port import Usage
from planner.ir.values import Json, canonical_json

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
        for choice in _dicts(part.get("choices")):
            if choice.get("index", 0) == 0:
                self._add_choice(choice)

    def _add_choice(self, choice: Mapping[str, Json]) -> None:
        said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        if isinstance(said, dict):
            self._content.append(_text(said.get("content")))
            for position, call in enumerate(_dicts(said.get("tool_calls"))):
                self._add_tool_call(call.get("index", position), call)
        ids = choice.get("token_ids")
        if isinstance(ids, list) and all(type(one) is int and 0 <= one <= _MOST_TOKENS for one in ids):
            self.token_ids = [*(self.token_ids or ()), *ids]

    def _add_tool_call(self, index: Json, part: Mapping[str, Json]) -> None:
        if not isinstance(index, int):
            return
        empty: dict[str, Json] = {"function": {"name": "", "arguments": ""}}
        function, added = self._tool_calls.setdefault(index, empty)["function"], part.get("function")
        if isinstance(added, dict):
            for name in ("name", "arguments"):
                function[name] += _text(added.get(name))


def _dicts(told: Json) -> list[dict[str, Json]]:
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def _text(told: Json) -> str:
    """Some servers give a tool's arguments as they are, and not as their text."""
    return told if isinstance(told, str) else canonical_json(told) if isinstance(told, dict) else ""


def _usage(told: Mapping[str, Json]) -> Usage:
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_tokens(told.get("prompt_tokens")), _tokens(told.get("completion_tokens")), _tokens(cached))


def _tokens(told: Json) -> int:
    return told if isinstance(told, int) and 0 <= told <= _MOST_TOKENS else 0
