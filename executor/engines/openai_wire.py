"""The OpenAI chat protocol as vLLM speaks it: requests to bytes, answers to values, bad answers to failures."""

import json
import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.engines.failures import failed
from executor.engines.names import engine_name
from executor.engines.port import Completion, EngineFailed, FailureClass, GenerateRequest, Usage
from planner.ir.conversation import ToolCall
from planner.ir.ids import ProgramId
from planner.ir.values import Json, parse_json

#: How vLLM (and others) say that a prompt, or prompt and answer together, exceed the model's context.
_CONTEXT_OVERFLOW = re.compile(r"maximum (context|model) length|context_length_exceeded|longer than the maximum", re.I)
_UNAVAILABLE = (502, 503)  # not 504, which a call that lasts too long gets from a proxy
_NO_SUCH_MODEL = re.compile(r"model.*(does not exist|not found)|model_not_found", re.I | re.S)
_SHOWN_CHARACTERS = 500


class _Lenient(BaseModel):
    """Servers add fields of their own; only what Halo reads is checked."""

    model_config = ConfigDict(extra="ignore")


class _Function(_Lenient):
    name: str
    arguments: str


class _ToolCall(_Lenient):
    id: str
    function: _Function


class _Message(_Lenient):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(_Lenient):
    message: _Message
    finish_reason: str | None = None


#: More than any context holds; what lies beyond is no count, and no database column takes it.
_Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _PromptDetails(_Lenient):
    cached_tokens: _Tokens | None = None


class _Usage(_Lenient):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Answer(_Lenient):
    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


class ServedModel(_Lenient):
    """A line of `/v1/models`. vLLM's own fields are `max_model_len`, `root`: what the weights were loaded from, and of
    an adapter the `parent` that it is of."""

    id: str
    max_model_len: int | None = None
    root: str | None = None
    parent: str | None = None


class _ServedModels(_Lenient):
    data: list[ServedModel]


class _ServerVersion(_Lenient):
    version: str


def request_body(request: GenerateRequest) -> bytes:
    """The body of `/v1/chat/completions`."""
    sampling = request.sampling
    body: dict[str, Json] = {
        "model": request.model,
        "messages": list(request.messages),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stream": False,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.min_tokens:
        body["min_tokens"] = request.min_tokens
    if request.schema is not None:
        answer = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if request.tools:
        body["tools"] = list(request.tools)
    if request.cache_salt is not None:
        body["cache_salt"] = request.cache_salt
    if request.priority is not None:
        body["priority"] = request.priority
    return json.dumps(body).encode()


def request_headers(request: GenerateRequest) -> dict[str, str]:
    """Names the call and its program to the engine. What a header cannot hold is percent-encoded."""
    program = engine_name(ProgramId(request.program))
    return {
        "Content-Type": "application/json",
        "X-Request-Id": quote(request.call_id, safe="/#:@[]"),
        "X-Session-ID": program,
        "X-Halo-Program-Id": program,
    }


def completion_from(body: bytes, model: str) -> Completion:
    """The completion in a 200 answer. Raises `EngineFailed` when the answer is not one, or is another model's."""
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as problem:
        raise failed(FailureClass.ENGINE, "bad_answer", _what_is_wrong(problem, body)) from None
    if answer.model != model:
        message = f"asked for model {model}, but {answer.model} answered; check the fleet's `models`"
        raise failed(FailureClass.ENGINE, "wrong_model", message)
    if not answer.choices:
        raise failed(FailureClass.ENGINE, "bad_answer", "the answer has no choices")
    return _completion(answer.choices[0], answer.usage or _Usage())


def served_models(body: bytes) -> tuple[ServedModel, ...]:
    """The models in an answer of `/v1/models`. Raises `EngineFailed` when it is not one."""
    try:
        return tuple(_ServedModels.model_validate_json(body).data)
    except ValidationError:
        raise failed(FailureClass.ENGINE, "bad_answer", "/v1/models did not answer with a list of models") from None


def server_version(body: bytes) -> str:
    """The version in an answer of vLLM's `/version`, or nothing: it is for people only."""
    try:
        return _ServerVersion.model_validate_json(body).version
    except ValidationError:
        return ""


def failure_from(status: int, headers: Mapping[str, str], body: bytes) -> EngineFailed:
    """What a status other than 200 means."""
    said = _error_text(body)
    message = f"the engine answered {status}: {said}"
    if status in (429, 529):
        return failed(FailureClass.RATE, "rate_limited", message, _retry_after_s(headers))
    if status in (401, 403):
        return failed(FailureClass.ENGINE, "unauthorized", f"{message}; check the engine's API key")
    if status == 404:
        return _not_found(said, message)
    if 400 <= status < 500 and status != 408:
        code = "prompt_too_long" if status == 413 or _CONTEXT_OVERFLOW.search(said) else "bad_request"
        return failed(FailureClass.ROW, code, message)
    code = "unavailable" if status in _UNAVAILABLE else "engine_error"
    return failed(FailureClass.ENGINE, code, message, _retry_after_s(headers))


def _completion(choice: _Choice, usage: _Usage) -> Completion:
    reason = choice.finish_reason or "stop"
    if reason in ("abort", "error"):
        raise failed(FailureClass.ENGINE, "aborted", f"the engine gave the call up (finish_reason {reason})")
    if reason not in ("stop", "length", "tool_calls"):
        raise failed(FailureClass.ANSWER, "refused", f"the engine ended the answer early (finish_reason {reason})")
    calls = choice.message.tool_calls or []
    return Completion(
        text=choice.message.content or "",
        usage=_tokens(usage),
        tool_calls=tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls),
        finish_reason=reason,
    )


def _tokens(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details or _PromptDetails()
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, details.cached_tokens or 0)


def _not_found(said: str, message: str) -> EngineFailed:
    if _NO_SUCH_MODEL.search(said):
        return failed(FailureClass.ENGINE, "wrong_model", message)
    return failed(FailureClass.ENGINE, "no_such_path", f"{message}; is the engine's URL an OpenAI-compatible server?")


def _error_text(body: bytes) -> str:
    """The server's own words: OpenAI's `error.message`, old vLLM's `message`, FastAPI's `detail`, or all of it."""
    text = body.decode("utf-8", errors="replace").strip()
    try:
        data = parse_json(text)
    except ValueError:
        return text[:_SHOWN_CHARACTERS] or "nothing"
    if isinstance(data, dict):
        inner = data.get("error")
        data = inner if isinstance(inner, dict) else data
        text = str(data.get("message") or data.get("detail") or inner or text)
    return text[:_SHOWN_CHARACTERS]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds only: a date would need the server's clock. A negative, endless or unreadable wait is no wait."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _what_is_wrong(problem: ValidationError, body: bytes) -> str:
    first = problem.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the answer"
    start = body[:80].decode("utf-8", errors="replace")
    return f"the engine's answer is not a chat completion: {place}: {first['msg']} (it begins {start!r})"
