"""The engine port: what Halo asks of an inference engine.

Bodies: `vllm_http`, `modelled`, `scripted`; one contract test runs on all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from executor.engines.rungs import Rung
from planner.cost.profile import Profile
from planner.ir.conversation import ToolCall
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine as the fleet file describes it. `max_running` bounds the calls Halo keeps inside it at once.

    `models` are the names workflows use; `served_names` has the server's own name of each that it knows by another.
    `tensor_parallel` GPUs hold one copy of the model; without it, as few as do. `profile` says how fast the engine was
    measured to be; without it, it is believed to be as fast as its GPU kind. `kv_tokens` is the room of its KV cache; 0
    is not known. With `warm_first` a beginning of prompts that is not in its cache is computed by one call alone, and
    the others follow when that has ended: for engines that do not share what a running call computes. `revision` names
    the weights behind its models, whatever the engine itself says of them: results are kept under it. At `kv_events` a
    vLLM publishes what its KV cache takes in and gives up (ZMQ), and at `kv_replay` it repeats what was missed; without
    them that is estimated. Engines of one `kv_tier` find each other's KV there. It keeps `kv_tier_gib`, and is loaded
    at `kv_tier_gb_per_s`; where that is not said, at half of the speed of the host's bus. `adapters` are names of LoRA
    adapters of the first of its models, which it serves beside them. With `tenants` it is kept for theirs alone.
    """

    id: EngineId
    kind: str
    models: tuple[str, ...]
    url: str = ""
    gpu: str = "unknown"
    max_running: int = 64
    context_tokens: int = 8192
    price_per_hour: float = 0.0
    options: Json = field(default_factory=dict)
    served_names: Mapping[str, str] = field(default_factory=dict)
    tensor_parallel: int | None = None
    profile: Profile | None = None
    kv_tokens: int = 0
    warm_first: bool = False
    revision: str = ""
    kv_events: str = ""
    kv_replay: str = ""
    kv_tier: str = ""
    kv_tier_gib: float = 4.0
    kv_tier_gb_per_s: float | None = None
    adapters: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()

    @property
    def served(self) -> tuple[str, ...]:
        """All names that calls may ask for."""
        return (*self.models, *self.adapters)

    def serves(self, model: str, tenant: str = "") -> bool:
        """Whether it may take the tenant's calls to the model."""
        return model in self.served and self.serves_tenant(tenant)

    def serves_tenant(self, tenant: str) -> bool:
        return not self.tenants or tenant in self.tenants

    def base_of(self, model: str) -> str:
        """The model whose weights it computes with: an adapter is of the first of its models."""
        return self.models[0] if self.models and model in self.adapters else model

    @property
    def weights_of(self) -> dict[str, str]:
        """For each name that calls may ask for, the server's own of the model whose weights it computes with: for an
        adapter no other model is loaded."""
        return {model: self.served_names.get(self.base_of(model), self.base_of(model)) for model in self.served}

    @property
    def models_plugin(self) -> bool:
        """Whether it is modelled as a vLLM with the plugin."""
        return bool(self.options.get("retention") == "plugin")

    @property
    def keeps_priorities(self) -> bool:
        """Whether it takes calls by the priority that is sent with each: `--scheduling-policy priority`."""
        return bool(self.options.get("priority_scheduling"))


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One call. `messages` are OpenAI chat messages, `tools` OpenAI tool definitions; `schema` asks for guided JSON.

    `call_id` is unique for each attempt; the engine sees it as the request id. `is_turn` marks an agent's turn: its
    answer may ask for tools. `min_tokens` are written before the answer may stop: vLLM's own, used to measure it.
    Calls of another `cache_salt` share no prefix cache with it, in engines that know it. Engines that keep priorities
    take the call of the least `priority` first, and let it go before others where their KV is short.
    """

    call_id: str
    program: str
    model: str
    messages: tuple[Json, ...]
    sampling: Sampling
    schema: Json = None
    tools: tuple[Json, ...] = ()
    timeout_s: float = 300.0
    is_turn: bool = False
    min_tokens: int = 0
    cache_salt: str | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """`finish_reason` is the engine's: `stop`, `length` or `tool_calls`."""

    text: str
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"


class FailureClass(StrEnum):
    """What kind of failure it was, which decides what is done about it (`executor.policy.retry`)."""

    ROW = "row"  # the request itself is at fault: trying again cannot help
    ANSWER = "answer"  # the engine answered, but not what was asked: trying again may help
    ENGINE = "engine"  # the engine failed: try another, it does not count against the row
    ENGINE_DIED = "engine_died"  # the connection broke in the middle: suspect the row if it happens again
    RATE = "rate"  # the engine asks to wait
    TOOL = "tool"  # a tool failed: its spec says how often to try again


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call, a tool or a program failed, fit to be shown. `code` is stable; `message` is for people."""

    failure_class: FailureClass
    code: str
    message: str
    retry_after_s: float | None = None


class EngineFailed(Exception):
    """The one error an engine body raises."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """What a probe found. `models` are the names the engine serves, `adapters` those of them that are LoRA adapters;
    `detail` says why it is not ready.

    `kv_tokens` is the room of its KV cache, where it tells; `rung` says how it keeps the KV of programs that wait.
    """

    ready: bool
    models: tuple[str, ...] = ()
    context_tokens: int | None = None
    version: str = ""
    detail: str = ""
    kv_tokens: int | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)
    rung: Rung = Rung.UNKNOWN
    adapters: tuple[str, ...] = ()

    @property
    def bases(self) -> tuple[str, ...]:
        """The models that are no adapters."""
        return tuple(model for model in self.models if model not in self.adapters)


class Engine(Protocol):
    """Promises: `generate` ends within `timeout_s` with a Completion or `EngineFailed`; cancelling the task that awaits
    it stops the work inside the engine; `probe` never raises; `close` may be called twice."""

    @property
    def spec(self) -> EngineSpec: ...

    async def generate(self, request: GenerateRequest) -> Completion: ...

    async def probe(self) -> EngineHealth: ...

    async def close(self) -> None: ...
