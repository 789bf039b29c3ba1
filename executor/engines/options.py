"""What an engine's spec must hold for each kind, checked before anything is opened."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from executor.engines.port import EngineSpec
from planner.errors import Problem

#: `package.module:function`, and no file name or Windows path.
FUNCTION_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: Of a socket that somebody else bound.
_ZMQ_ADDRESS = re.compile(r"tcp://[^*\s/]+:\d+|ipc://\S+")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HttpOptions(_Strict):
    """`api_key_env` names the environment variable that holds the key; `record` a file to write the answers to;
    `tokenizer` the folder of the model's tokenizer and chat template, so that the engine need not be asked.
    `priority_scheduling` says that a vLLM was started with `--scheduling-policy priority`: calls then carry their
    priority, by which it takes them up, and lets them go before others where its KV is short."""

    api_key_env: str | None = None
    record: str | None = None
    tokenizer: str | None = None
    priority_scheduling: bool = False


class ScriptedOptions(_Strict):
    """`answers` is a file of recorded answers or `module:function`; without it answers are made up from `seed`."""

    answers: str | None = None
    seed: int = 0


class ModelledOptions(ScriptedOptions):
    """`scale` modelled seconds pass in a real one. With `priority_scheduling` calls are taken up by their priority. The
    `retention` of the plugin admits, orders and keeps programs as `halo_vllm` does inside vLLM."""

    scale: Annotated[float, Field(gt=0)] = 1.0
    priority_scheduling: bool = False
    retention: Literal["prefix cache", "plugin"] = "prefix cache"

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.priority_scheduling and self.retention == "plugin":
            raise ValueError("a modelled engine has priorities or the plugin's own order: leave one out")
        return self


Options = HttpOptions | ScriptedOptions | ModelledOptions

OPTIONS: dict[str, type[Options]] = {
    "vllm": HttpOptions,
    "openai": HttpOptions,
    "modelled": ModelledOptions,
    "scripted": ScriptedOptions,
}


def spec_problems(spec: EngineSpec) -> list[Problem]:
    """Everything that keeps the spec from being opened, as far as can be told without opening anything."""
    where = f"engine {spec.id!r}"
    return [Problem(where, what, fix) for what, fix in _complaints(spec)]


def _complaints(spec: EngineSpec) -> Iterator[tuple[str, str]]:
    if not spec.id:
        yield "has no id", "give it a short name"
    if spec.max_running < 1:
        yield f"max_running is {spec.max_running}", "let at least one call run at a time"
    if spec.context_tokens < 1:
        yield f"context_tokens is {spec.context_tokens}", "write the context length the engine was started with"
    if spec.price_per_hour < 0:
        yield f"price_per_hour is {spec.price_per_hour}", "write 0 or more"
    if spec.kv_tokens < 0:
        yield f"kv_tokens is {spec.kv_tokens}", "write the tokens its KV cache has room for, or nothing"
    if spec.tensor_parallel is not None and spec.tensor_parallel < 1:
        yield f"tensor_parallel is {spec.tensor_parallel}", "write on how many GPUs one copy of the model is"
    if spec.kind not in OPTIONS:
        yield f"there is no kind {spec.kind!r}", f"choose one of {', '.join(OPTIONS)}"
        return
    yield from _address_complaints(spec)
    yield from _adapter_complaints(spec)
    yield from _kv_complaints(spec)
    yield from _option_complaints(spec)


def _address_complaints(spec: EngineSpec) -> Iterator[tuple[str, str]]:
    if OPTIONS[spec.kind] is not HttpOptions:
        if not spec.models:
            yield f"a {spec.kind} engine names no model", "write the model names it shall answer to in `models`"
        return
    if not spec.url:
        yield f"a {spec.kind} engine needs a url", 'write url = "http://host:port"'
    elif not is_http_url(spec.url):
        yield f"{spec.url!r} is no URL of an HTTP server", 'write url = "http://host:port"'


def _adapter_complaints(spec: EngineSpec) -> Iterator[tuple[str, str]]:
    if spec.adapters and not spec.models:
        yield "it names adapters and no model that they are of", "write the model in `model`"
    for name in sorted({name for name in spec.served if spec.served.count(name) > 1}):
        yield f"{name!r} is named more than once among its models and adapters", "give each its own name"
    if "" in spec.tenants:
        yield "a tenant in `tenants` has no name", "write names of tenants, or leave it out"


def _kv_complaints(spec: EngineSpec) -> Iterator[tuple[str, str]]:
    for name, address in (("kv_events", spec.kv_events), ("kv_replay", spec.kv_replay)):
        if address and not _ZMQ_ADDRESS.fullmatch(address):
            yield f"{name}: {address!r} is no address to connect to", f'write {name} = "tcp://host:port"'
    if spec.kv_events and spec.kind != "vllm":
        yield f"kv_events: a {spec.kind} engine publishes none", "leave it out"
    if not spec.kv_tier_gib > 0:
        yield f"kv_tier_gib is {spec.kv_tier_gib}", "write the tier's capacity_gib"
    if spec.kv_tier_gb_per_s is not None and not spec.kv_tier_gb_per_s > 0:
        yield f"kv_tier_gb_per_s is {spec.kv_tier_gb_per_s}", "write what was measured, or nothing"
    if spec.kv_replay and not spec.kv_events:
        yield "kv_replay is written without kv_events", "write kv_events as well"
    if spec.kv_events and not all(map(find_spec, ("zmq", "msgspec"))):
        yield "kv_events: the packages that read them are not installed", "pip install 'halo-orchestrator[kv-events]'"


def _option_complaints(spec: EngineSpec) -> Iterator[tuple[str, str]]:
    model = OPTIONS[spec.kind]
    try:
        model.model_validate(spec.options)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            yield f"options.{_place(error)}: {_message(error)}", f"a {spec.kind} engine knows: {known_keys(model)}"


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def known_keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _place(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"]) or "all of it"


def _message(error: Any) -> str:
    return "unknown" if error["type"] == "extra_forbidden" else str(error["msg"])
