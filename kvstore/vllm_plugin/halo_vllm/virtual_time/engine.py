"""One engine under a virtual clock: vLLM's scheduler and KV cache manager, and `Costs` where the model would be."""

import hashlib
import json
import math
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, ParallelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from halo_vllm.virtual_time.costs import Costs, Step, StepCosts

HASH = "sha256"
VOCABULARY = 2048
STOCK_SCHEDULER = "vllm.v1.core.sched.async_scheduler.AsyncScheduler"
HALO_SCHEDULER = "halo_vllm.Scheduler"


@dataclass(frozen=True, slots=True)
class EngineShape:
    """What `vllm serve` would be told. `halo` is the plugin's part of `--additional-config`. `ahead`: a step is
    scheduled while the one before it runs, as vLLM does on a GPU (`--async-scheduling`).
    """

    scheduler: str = STOCK_SCHEDULER
    policy: str = "fcfs"
    kv_blocks: int = 768
    block_tokens: int = 32
    context_tokens: int = 16_384
    max_running: int = 256
    step_tokens: int = 2048
    costs: Costs = field(default_factory=StepCosts)
    halo: Mapping[str, Any] = field(default_factory=dict)
    ahead: bool = False

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_tokens


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `hints` travel as `vllm_xargs` do."""

    id: str
    prompt: tuple[int, ...]
    output_tokens: int
    priority: int = 0
    session: str | None = None
    cache_salt: str | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """What has become of a call so far."""

    call: Call
    asked_s: float
    first_token_s: float | None = None
    cached_tokens: int | None = None
    prefilled_tokens: int = 0
    output: list[int] = field(default_factory=list)


class VirtualEngine:
    """Requests in, steps taken one at a time, the clock moved by what each step costs."""

    def __init__(self, shape: EngineShape) -> None:
        self.shape = shape
        self.now_s = 0.0
        self._worked_until_s = -math.inf
        self.steps = 0
        self.scheduler = _scheduler_of(shape, self.clock)
        self._hasher = get_request_block_hasher(shape.block_tokens, get_hash_fn_by_name(HASH))
        self._in_flight: dict[str, Progress] = {}
        self._steps_ahead: deque[tuple[Any, ModelRunnerOutput, float]] = deque()

    def clock(self) -> float:
        return self.now_s

    @property
    def busy(self) -> bool:
        return bool(self._in_flight)

    def ask(self, call: Call) -> None:
        self._in_flight[call.id] = Progress(call, self.now_s)
        self.scheduler.add_request(_request_of(call, self.now_s, self._hasher))

    def abort(self, call_id: str) -> None:
        """As when a client goes away."""
        self._in_flight.pop(call_id, None)
        self.scheduler.finish_requests(call_id, RequestStatus.FINISHED_ABORTED)

    def hint(self, hint: Mapping[str, Any]) -> None:
        """What the plugin's endpoint would be told. Stock vLLM has no ear for it."""
        take = getattr(self.scheduler, "halo_hint", None)
        if take is not None:
            take(dict(hint))

    def step(self) -> list[Progress] | None:
        """Takes one step and moves the clock to its end; the calls it finished. None: nothing could be scheduled."""
        planned = self.scheduler.schedule()
        if planned.total_num_scheduled_tokens:
            self._steps_ahead.append((planned, self._sample(planned), self._cost_s(planned)))
            if self.shape.ahead and len(self._steps_ahead) == 1:
                return []
        else:
            self.scheduler.update_from_output(planned, ModelRunnerOutput([], {}))
        return self._end_step() if self._steps_ahead else None

    def _end_step(self) -> list[Progress]:
        planned, sampled, cost_s = self._steps_ahead.popleft()
        self.steps += 1
        self.now_s = self._worked_until_s = self.now_s + cost_s
        self.scheduler.update_from_output(planned, sampled)
        return self._collect(sampled)

    def _cost_s(self, planned: Any) -> float:
        begun = intake = prefill = reading = decoding = context = backward = 0
        pairs = 0.0
        for new in planned.scheduled_new_reqs:
            progress = self._in_flight[new.req_id]
            if progress.cached_tokens is None:
                progress.cached_tokens = new.num_computed_tokens
                begun, intake = begun + 1, intake + self.scheduler.requests[new.req_id].num_prompt_tokens
        for request_id, tokens in planned.num_scheduled_tokens.items():
            request = self.scheduler.requests[request_id]
            before = request.num_computed_tokens - tokens
            if tokens == 1 and before >= request.num_prompt_tokens:
                decoding, context = decoding + 1, context + before
            else:
                reading, prefill = reading + 1, prefill + tokens
                pairs, backward = pairs + tokens * tokens / 2, backward + tokens * before
                self._in_flight[request_id].prefilled_tokens += tokens
        idle_s = max(0.0, self.now_s - self._worked_until_s)
        return self.shape.costs(Step(prefill, decoding, context, reading, begun, pairs, backward, intake, idle_s))

    def _sample(self, planned: Any) -> ModelRunnerOutput:
        ids = list(planned.num_scheduled_tokens)
        tokens = [self._token(request_id) for request_id in ids]
        return ModelRunnerOutput(ids, {request_id: at for at, request_id in enumerate(ids)}, sampled_token_ids=tokens)

    def _token(self, request_id: str) -> list[int]:
        request = self.scheduler.requests[request_id]
        if request.is_prefill_chunk:
            return []
        return [token_of(request_id, request.num_output_tokens + request.num_output_placeholders - 1)]

    def _collect(self, sampled: ModelRunnerOutput) -> list[Progress]:
        done = []
        for request_id, tokens in zip(sampled.req_ids, sampled.sampled_token_ids, strict=True):
            progress = self._in_flight.get(request_id)
            if progress is None:
                continue  # aborted while the step ran
            if tokens and progress.first_token_s is None:
                progress.first_token_s = self.now_s
            progress.output += tokens
            if len(progress.output) == progress.call.output_tokens:
                done.append(self._in_flight.pop(request_id))
        return done


def token_of(text: str, number: int) -> int:
    """The same token for the same place of the same text, in every run."""
    digest = hashlib.blake2b(f"{text}/{number}".encode(), digest_size=4).digest()
    return 3 + int.from_bytes(digest) % (VOCABULARY - 3)


def _request_of(call: Call, now_s: float, hasher: Callable[[Request], list[Any]]) -> Request:
    extra = dict(call.hints) or None
    sampling = SamplingParams(max_tokens=call.output_tokens, ignore_eos=True, temperature=0.0, extra_args=extra)
    sampling.update_from_generation_config({}, eos_token_id=2)
    session = {"session_id": call.session} if call.session is not None else {}
    return Request(
        request_id=call.id,
        prompt_token_ids=list(call.prompt),
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=now_s,
        priority=call.priority,
        cache_salt=call.cache_salt,
        block_hasher=hasher,
        **session,
    )


def _scheduler_of(shape: EngineShape, clock: Callable[[], float]) -> Any:
    init_none_hash(get_hash_fn_by_name(HASH))
    config = _config_of(shape)
    kind = config.scheduler_config.get_scheduler_cls()
    scheduler = kind(
        vllm_config=config,
        kv_cache_config=_kv_of(shape),
        structured_output_manager=StructuredOutputManager(config),
        block_size=shape.block_tokens,
        hash_block_size=shape.block_tokens,
        log_stats=False,
    )
    use_clock = getattr(scheduler, "use_clock", None)
    if use_clock is not None:
        use_clock(clock)
    return scheduler


def _config_of(shape: EngineShape) -> VllmConfig:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(_model_of(shape)))
        model = ModelConfig(
            model=folder, skip_tokenizer_init=True, max_model_len=shape.context_tokens, dtype="bfloat16", seed=0
        )
    cache = CacheConfig(block_size=shape.block_tokens, enable_prefix_caching=True, prefix_caching_hash_algo=HASH)
    config = VllmConfig(
        model_config=model,
        cache_config=cache,
        scheduler_config=_scheduling_of(shape),
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig("cpu"),
        additional_config={"halo": dict(shape.halo)},
    )
    config.cache_config.num_gpu_blocks = shape.kv_blocks
    config.cache_config.block_size = shape.block_tokens
    return config


def _scheduling_of(shape: EngineShape) -> SchedulerConfig:
    return SchedulerConfig(
        max_num_seqs=shape.max_running,
        max_num_batched_tokens=shape.step_tokens,
        max_model_len=shape.context_tokens,
        enable_chunked_prefill=True,
        is_encoder_decoder=False,
        policy=shape.policy,
        scheduler_cls=shape.scheduler,
        watermark=0.0,
    )


def _kv_of(shape: EngineShape) -> KVCacheConfig:
    spec = FullAttentionSpec(block_size=shape.block_tokens, num_kv_heads=1, head_size=32, dtype=torch.bfloat16)
    return KVCacheConfig(
        num_blocks=shape.kv_blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )


def _model_of(shape: EngineShape) -> dict[str, Any]:
    """A Llama of one layer: nothing is computed, but vLLM wants to know a model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "max_position_embeddings": shape.context_tokens,
        "vocab_size": VOCABULARY,
        "torch_dtype": "bfloat16",
    }
