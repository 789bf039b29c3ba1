"""The paper's fleets, and one three times as uneven: each engine is a tensor-parallel group of four GPUs that serves
Llama-3.1-70B in bf16.

How fast a kind is comes from `planner.cost.gpus`, or from what the paper's published code measured (`calibration`):
prompt tokens a second fitted to its seconds of single calls, and its time per output token.
"""

from collections.abc import Sequence

from benchmarks.scheduling.lengths import PUBLISHED_MEANS, PUBLISHED_REQUEST
from benchmarks.scheduling.program import MODEL
from benchmarks.scheduling.requests import Call, Request
from executor.engines.port import EngineSpec
from executor.prompt_blocks import BLOCK_TOKENS
from planner.cost.gpus import Gpu, gpu_named
from planner.cost.model import CHUNK_TOKENS, Replica, all_reduce_seconds
from planner.cost.profile import Profile
from planner.cost.shapes import LLAMA_3_70B
from planner.ir.ids import EngineId

DEGREE = 4
MOST_RUNNING = 256
CONTEXT_TOKENS = 32_768
#: Of what memory the weights leave; the published simulator's, whose KV has the same room to the token.
KV_SHARE = 0.95
FLEETS = {
    "hetero-1": ("A100-40", "A100-40", "A6000", "L40S"),
    "hetero-2": ("A100-40", "A6000", "A100-40", "A6000"),
    "uneven": (
        "H100",
        "A100-40",
        "L40S",
        "A6000",
    ),  # the quickest reads 7 times as fast as the slowest, there 2.3 times
}
#: Prompt tokens a second and seconds per output token, of the kinds that the published code knows.
_PUBLISHED = {
    "A100-40": (3_028.0, 0.035),
    "A6000": (1_035.0, 0.058),
    "L40S": (1_736.0, 0.0545),
    "H100": (8_182.0, 0.0108),
}
CALIBRATIONS = ("cost model", "published")


def fleet_named(name: str, calibration: str = "cost model") -> list[EngineSpec]:
    """The engines of a fleet of `FLEETS`, in the paper's order: the first is the one others are compared with."""
    return [_engine(f"{kind.lower()}.{place}", kind, calibration) for place, kind in enumerate(FLEETS[name])]


def profile_for(kind: str, calibration: str = "cost model") -> Profile:
    """What a step takes of a group of that kind."""
    gpu = gpu_named(kind)
    assert gpu is not None, kind
    modelled = _modelled(Replica(gpu, LLAMA_3_70B, DEGREE))
    return modelled if calibration == "cost model" else _published(modelled, *_PUBLISHED[kind])


def alone_s(profile: Profile, call: Call) -> float:
    """What the call takes with nothing beside it and nothing cached."""
    left, seconds, context = call.prompt_tokens, 0.0, 0
    while left:
        chunk = min(left, profile.step_tokens)
        seconds += profile.step_s(chunk, 1, 0, 0, chunk * chunk / 2, chunk * context)
        left, context = left - chunk, context + chunk
    steps = call.output_tokens - 1
    reads = steps * call.prompt_tokens + steps * (steps + 1) // 2
    return seconds + steps * profile.step_s(1, 1, 0, 0, 0.0) + profile.kv_read_s * reads


def base_s(fleet: Sequence[EngineSpec]) -> float:
    """What deadlines are scaled from, as published: the mean seconds over the engines of the steps of a usual request,
    one after the other, each with its mean lengths."""
    profiles = profiles_of(fleet)
    calls = [Call(step, *PUBLISHED_MEANS[step]) for step in PUBLISHED_REQUEST]
    return sum(sum(alone_s(profile, call) for call in calls) for profile in profiles) / len(profiles)


def path_s(fleet: Sequence[EngineSpec], request: Request) -> float:
    """The least a request can take: one stage after the other, each call alone where it is quickest."""
    profiles = list(dict.fromkeys(profiles_of(fleet)))
    stages = (max(min(alone_s(profile, call) for profile in profiles) for call in stage) for stage in request.stages)
    return sum(stages)


def profiles_of(fleet: Sequence[EngineSpec]) -> list[Profile]:
    profiles = [spec.profile for spec in fleet if spec.profile is not None]
    assert len(profiles) == len(fleet)
    return profiles


def _engine(name: str, kind: str, calibration: str) -> EngineSpec:
    profile = profile_for(kind, calibration)
    return EngineSpec(
        EngineId(name),
        "modelled",
        (MODEL,),
        gpu=kind,
        max_running=MOST_RUNNING,
        context_tokens=CONTEXT_TOKENS,
        tensor_parallel=DEGREE,
        profile=profile,
        kv_tokens=profile.kv_tokens,
    )


def _modelled(replica: Replica) -> Profile:
    """`planner.cost.model` in the coefficients of a step: what grows with tokens, what with weights, what with neither.

    Attention while prompts are read counts its arithmetic, as nearly all of it is.
    """
    gpu, shape, efficiency = replica.gpu, replica.shape, replica.gpu.efficiency
    bytes_per_s = efficiency.memory * gpu.peak_bytes_per_s
    flops = efficiency.compute * gpu.peak_flops
    activations = shape.hidden * 2
    reduce_token_s = all_reduce_seconds(replica, float(CHUNK_TOKENS * activations)) - all_reduce_seconds(replica, 0.0)
    weights = shape.layers * shape.layer_weights / replica.degree
    return Profile(
        gpu=gpu.name,
        source=f"planner.cost.gpus, {replica.degree} GPUs, {shape.name}",
        calibrated=gpu.calibrated,
        weights_s=weights * shape.weight_bytes / bytes_per_s,
        token_s=2 * weights / flops + 2 * shape.layers * reduce_token_s / CHUNK_TOKENS,
        blend=efficiency.blend,
        kv_read_s=shape.kv_bytes_per_token / replica.degree / bytes_per_s,
        attend_s=4 * shape.layers * shape.query_width / replica.degree / (efficiency.attention * gpu.peak_flops),
        kv_tokens=_kv_tokens(gpu, replica),
        overhead_s=efficiency.step_s + shape.layers * (efficiency.launch_s + 2 * all_reduce_seconds(replica, 0.0)),
        block_tokens=BLOCK_TOKENS,
        step_tokens=CHUNK_TOKENS,
    )


def _kv_tokens(gpu: Gpu, replica: Replica) -> int:
    shape = replica.shape
    free = replica.degree * gpu.memory_gb * 1e9 - shape.weights * shape.weight_bytes
    return int(KV_SHARE * free / shape.kv_bytes_per_token)


def _published(like: Profile, prompt_tokens_per_s: float, output_token_s: float) -> Profile:
    """A step takes its time per output token, or as long as its prompt tokens take, nearly whichever is more."""
    return Profile(
        gpu=like.gpu,
        source="what HexGen-Text2SQL's published code measured",
        calibrated=True,
        weights_s=output_token_s,
        token_s=1 / prompt_tokens_per_s,
        blend=4.0,
        kv_read_s=0.0,
        attend_s=0.0,
        kv_tokens=like.kv_tokens,
        overhead_s=0.0,
        block_tokens=like.block_tokens,
        step_tokens=like.step_tokens,
    )
