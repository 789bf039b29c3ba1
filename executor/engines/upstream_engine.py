"""Requests in OpenAI's shape for engines inside this process, which know no HTTP: modelled and scripted ones."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from executor.engines.port import Completion, Engine, EngineFailed, FailureClass, GenerateRequest, Usage
from executor.engines.upstream import Reply, UpstreamRequest
from planner.ir.plan import Sampling
from planner.ir.values import Json

CHAT = "/v1/chat/completions"
#: Without a bound in the request, an answer is at most so long.
MOST_TOKENS = 1024
#: A stream gives so many characters at a time.
_PIECE_CHARACTERS = 16


class EngineUpstream:
    """Body of the `Upstream` port over an `Engine`, which stays open: it is closed by whoever opened it.

    What no engine inside this process can do (logprobs) is refused, as a server refuses it: with 400.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def ask(self, request: UpstreamRequest) -> AsyncIterator[Reply]:
        body = request.body
        refusal = _refusal(body)
        if refusal is not None:
            yield _refused(refusal)
            return
        try:
            answers = await asyncio.gather(*map(self._engine.generate, _calls(request)))
        except EngineFailed as problem:
            if problem.failure.failure_class is not FailureClass.ROW:
                raise
            yield _refused(problem.failure.message)
            return
        written = _Written(request, answers)
        parts = written.stream() if body.get("stream") else [written.whole()]
        kind = "text/event-stream" if body.get("stream") else "application/json"
        yield Reply(200, {"Content-Type": kind}, _each(parts))

    async def hint(self, told: Mapping[str, Json]) -> bool:
        """What it models keeps KV as vLLM does by itself."""
        return False

    async def close(self) -> None:
        return None


def _refusal(body: Mapping[str, Json]) -> str | None:
    if body.get("logprobs") or body.get("prompt_logprobs"):
        return "this engine gives no logprobs"
    prompt = body.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        return "this engine takes a prompt of one text"
    return None


def _calls(request: UpstreamRequest) -> list[GenerateRequest]:
    """One for each choice. Seeds differ, as the choices shall."""
    body, headers = request.body, request.headers
    messages = body["messages"] if request.path == CHAT else [{"role": "user", "content": body["prompt"]}]
    count, seed = body.get("n") or 1, body.get("seed")
    return [
        GenerateRequest(
            call_id=f"{headers.get('X-Request-Id', '')}-{index}",
            program=headers.get("X-Halo-Program-Id", ""),
            model=body["model"],
            messages=tuple(messages),
            sampling=_sampling(body, None if seed is None else seed + index),
            schema=_schema(body),
            tools=tuple(body.get("tools") or ()),
            is_turn=bool(body.get("tools")),
        )
        for index in range(count)
    ]


def _sampling(body: Mapping[str, Json], seed: int | None) -> Sampling:
    stop = body.get("stop") or ()
    return Sampling(
        temperature=_given(body, "temperature", 1.0),
        top_p=_given(body, "top_p", 1.0),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or MOST_TOKENS,
        seed=seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _given(body: Mapping[str, Json], name: str, default: float) -> float:
    value = body.get(name)
    return default if value is None else float(value)


def _schema(body: Mapping[str, Json]) -> Json:
    asked = body.get("response_format") or {}
    if asked.get("type") == "json_schema":
        return asked["json_schema"].get("schema")
    return {"type": "object"} if asked.get("type") == "json_object" else None


def _refused(message: str) -> Reply:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return Reply(400, {"Content-Type": "application/json"}, _each([json.dumps({"error": error}).encode()]))


async def _each(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _Written:
    request: UpstreamRequest
    answers: Sequence[Completion]

    @property
    def _chats(self) -> bool:
        return self.request.path == CHAT

    def whole(self) -> bytes:
        choices = [self._choice(index, answer) for index, answer in enumerate(self.answers)]
        kind = "chat.completion" if self._chats else "text_completion"
        return json.dumps(self._frame(kind, choices) | {"usage": _usage(self.answers)}).encode()

    def stream(self) -> list[bytes]:
        kind = "chat.completion.chunk" if self._chats else "text_completion"
        choices = [choice for index, answer in enumerate(self.answers) for choice in self._deltas(index, answer)]
        chunks = [self._frame(kind, [choice]) for choice in choices]
        if (self.request.body.get("stream_options") or {}).get("include_usage"):
            chunks.append(self._frame(kind, []) | {"usage": _usage(self.answers)})
        return [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n"]

    def _frame(self, kind: str, choices: list[Json]) -> dict[str, Json]:
        id = f"{'chatcmpl' if self._chats else 'cmpl'}-{self.request.headers.get('X-Request-Id', '')}"
        return {"id": id, "object": kind, "created": 0, "model": self.request.body["model"], "choices": choices}

    def _choice(self, index: int, answer: Completion) -> Json:
        ending = {"index": index, "finish_reason": answer.finish_reason, "logprobs": None}
        if not self._chats:
            return {"text": answer.text, **ending}
        message: dict[str, Json] = {"role": "assistant", "content": answer.text or None}
        if answer.tool_calls:
            message["tool_calls"] = _tool_calls(answer)
        return {"message": message, **ending}

    def _deltas(self, index: int, answer: Completion) -> list[Json]:
        """The text in pieces, then the tools it asks for, then why it ended."""
        text = answer.text
        pieces = [text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS)]
        ending = {"index": index, "finish_reason": answer.finish_reason, "logprobs": None}
        going: dict[str, Json] = {"index": index, "finish_reason": None, "logprobs": None}
        if not self._chats:
            return [*({"text": piece, **going} for piece in pieces), {"text": "", **ending}]
        deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
        deltas += [{"tool_calls": [{"index": at, **call}]} for at, call in enumerate(_tool_calls(answer))]
        return [*({"delta": delta, **going} for delta in deltas), {"delta": {}, **ending}]


def _tool_calls(answer: Completion) -> list[dict[str, Json]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]


def _usage(answers: Sequence[Completion]) -> Json:
    told = Usage(
        answers[0].usage.prompt_tokens,
        sum(answer.usage.output_tokens for answer in answers),
        answers[0].usage.cached_tokens,
    )
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.output_tokens,
        "total_tokens": told.prompt_tokens + told.output_tokens,
        "prompt_tokens_details": {"cached_tokens": told.cached_tokens},
    }
