"""An OpenAI-compatible server as the model of an inline run. Jobs go through the scheduler's engines instead."""

import os
import time
from collections.abc import Callable

from halo.sdk.http import Answer, NoAnswer, request_json
from planner.interpret import StageFailed
from planner.ir.conversation import Reply, ToolCall
from planner.ir.plan import Agent, Generate
from planner.ir.values import Json

ENGINE_KEY = "HALO_ENGINE_API_KEY"


class HttpModel:
    """`url` is the server's address, with or without its `/v1`. HALO_ENGINE_API_KEY is sent where it is set."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._sleep = sleep

    def chat(self, stage: Generate | Agent, messages: list[Json], tools: list[Json]) -> Reply:
        """One call, tried again `stage.retries` times where that may help. Raises `StageFailed`."""
        body = request_body(stage, messages, tools)
        for attempt in range(stage.retries + 1):
            last = attempt == stage.retries
            try:
                answer = request_json("POST", self._url, body=body, headers=_headers(), timeout_s=stage.timeout_s)
            except NoAnswer as error:
                if last:
                    raise StageFailed("engine_unreachable", f"{error}; is the server running?") from None
            else:
                if answer.status == 200:
                    return read_reply(answer)
                if last or not _may_help(answer.status):
                    raise StageFailed("engine_refused", f"{self._url} answered {answer.status}: {answer.detail}")
            self._sleep(0.25 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def request_body(stage: Generate | Agent, messages: list[Json], tools: list[Json]) -> dict[str, Json]:
    """The body of an OpenAI chat request. A schema asks for guided JSON."""
    sampling = stage.sampling
    body: dict[str, Json] = {
        "model": stage.model,
        "messages": messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if tools:
        body["tools"] = tools
    if isinstance(stage, Generate) and stage.schema is not None:
        schema = {"name": stage.id, "schema": stage.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def read_reply(answer: Answer) -> Reply:
    """Raises `StageFailed` for an answer that is no chat completion."""
    try:
        message = answer.body["choices"][0]["message"]
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        )
        text = message.get("content") or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        raise StageFailed("engine_garbage", f"the server's answer is no chat completion: {answer.detail}") from None
    return Reply(text, calls)


def _headers() -> dict[str, str]:
    key = os.environ.get(ENGINE_KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _may_help(status: int) -> bool:
    return status == 429 or status >= 500
