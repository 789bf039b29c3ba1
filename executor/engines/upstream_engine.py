"""Requests in OpenAI's shape for engines inside this process, which know no HTTP: modelled and scripted ones."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from executor.engines.port import Completion, Engine, EngineFailed, EngineSpec, FailureClass, GenerateRequest, Usage
from executor.engines.prompts import prompt_text
from executor.engines.upstream import Reply, UpstreamRequest
from executor.engines.upstream_call import CallRefused, UpstreamCall, one_prompt, read_upstream_call
from planner.ir.plan import Sampling
from planner.ir.tokens import estimate_tokens
from planner.ir.values import Json

CHAT = "/v1/chat/completions"
#: Without a bound in the request, an answer is at most so long, and no longer than the context has room for.
MOST_TOKENS = 1024
#: A stream gives so many characters at a time.
_PIECE_CHARACTERS = 16


class EngineUpstream:
    """Body of the `Upstream` port over an `Engine`, which stays open: it is closed by whoever opened it.

    What is wrong with a call, or what no engine inside this process can do, is refused as a server does it: with 400.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def ask(self, request: UpstreamRequest) -> AsyncIterator[Reply]:
        body = request.body
        try:
            answers = await asyncio.gather(*map(self._engine.generate, _calls(self._engine.spec, request)))
        except CallRefused as refusal:
            yield _refused(str(refusal))
            return
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


def _calls(spec: EngineSpec, request: UpstreamRequest) -> list[GenerateRequest]:
    """One for each choice. Seeds differ, as the choices shall. Raises `CallRefused`."""
    asked, headers = read_upstream_call(request.body), request.headers
    messages, tools = _messages(request), tuple(request.body.get("tools") or ())
    most_tokens = _most_tokens(asked, spec, prompt_text(messages, tools))
    return [
        GenerateRequest(
            call_id=f"{headers.get('X-Request-Id', '')}-{index}",
            program=headers.get("X-Halo-Program-Id", ""),
            model=request.body["model"],
            messages=messages,
            sampling=_sampling(asked, most_tokens, None if asked.seed is None else asked.seed + index),
            schema=asked.guide,
            tools=tools,
            is_turn=bool(tools),
            cache_salt=asked.cache_salt,
        )
        for index in range(asked.n or 1)
    ]


def _messages(request: UpstreamRequest) -> tuple[Json, ...]:
    if request.path == CHAT:
        return tuple(request.body["messages"])
    return ({"role": "user", "content": one_prompt(request.body["prompt"])},)


def _most_tokens(asked: UpstreamCall, spec: EngineSpec, prompt: str) -> int:
    """Who sets no bound gets what the context has left, as from vLLM."""
    given = asked.max_completion_tokens or asked.max_tokens
    return given or max(1, min(MOST_TOKENS, spec.context_tokens - estimate_tokens(prompt)))


def _sampling(asked: UpstreamCall, max_tokens: int, seed: int | None) -> Sampling:
    return Sampling(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        max_tokens=max_tokens,
        seed=seed,
        stop=asked.stops,
    )


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
