"""How long one step of an engine takes on a GPU: Llama-3-8B in bf16 on one GPU.

Made and fitted apart from `planner.cost`, so that a simulation can prove the planner wrong. What the sources do not
measure is derived from data sheets: the KV of a token is 128 KiB, read at 75 % of the memory bandwidth; attention runs
at half of the bf16 peak; KV gets 90 % of the memory, less the weights and 2 GB.
"""

from dataclasses import replace

from executor.engines.port import EngineSpec
from planner.cost.profile import Profile

_KV_BYTES_PER_TOKEN = 131072
_ATTENTION_FLOPS = 524288  # of one token looking at one token: 32 layers, 4,096 wide, both products
_VIDUR = "operator times measured by Vidur (MLSys 2024)"


def profile_for(gpu: str) -> Profile:
    """The profile of a GPU kind; an unknown kind is taken for an A100."""
    return PROFILES.get(gpu, PROFILES["A100"])


def profile_of(spec: EngineSpec) -> Profile:
    """The engine's own profile, where it has one; else that of its GPU kind. A known KV room is taken over."""
    profile = spec.profile or profile_for(spec.gpu)
    return replace(profile, kv_tokens=spec.kv_tokens) if spec.kv_tokens >= profile.block_tokens else profile


def in_real_time(spec: EngineSpec) -> EngineSpec:
    """As whoever looks at the clock sees it: a modelled engine whose options scale its time is quicker by that."""
    scale = spec.options.get("scale", 1.0) if isinstance(spec.options, dict) else 1.0
    return replace(spec, profile=profile_of(spec).quicker(scale)) if scale != 1.0 else spec


def _profile(
    gpu: str, source: str, tflops: float, memory_gb: int, gb_per_s: float, measured: tuple[float, float, float] | None
) -> Profile:
    """`measured` holds weights_s, token_s and blend; without it they come from the data sheet too."""
    weights_s, token_s, blend = measured or (16e9 / (0.8 * gb_per_s * 1e9), 16e9 / (0.6 * tflops * 1e12), 1.4)
    return Profile(
        gpu=gpu,
        source=source,
        calibrated=measured is not None,
        weights_s=weights_s,
        token_s=token_s,
        blend=blend,
        kv_read_s=_KV_BYTES_PER_TOKEN / (0.75 * gb_per_s * 1e9),
        attend_s=_ATTENTION_FLOPS / (0.5 * tflops * 1e12),
        kv_tokens=int((0.9 * memory_gb - 18) * 1e9 / _KV_BYTES_PER_TOKEN),
    )


PROFILES = {
    profile.gpu: profile
    for profile in (
        _profile(
            "H100",
            f"{_VIDUR}: Llama-2-7B on H100, mean error 4.1 %, scaled by the weights to Llama-3-8B",
            tflops=989,
            memory_gb=80,
            gb_per_s=3350,
            measured=(5.9e-3, 21.9e-6, 1.3),
        ),
        _profile(
            "A100",
            f"{_VIDUR}: Llama-3-8B on A100 80 GB, mean error 3.6 %",
            tflops=312,
            memory_gb=80,
            gb_per_s=2039,
            measured=(9.7e-3, 69.4e-6, 1.5),
        ),
        _profile("L40S", "data sheet", tflops=362, memory_gb=48, gb_per_s=864, measured=None),
        _profile("A6000", "data sheet", tflops=155, memory_gb=48, gb_per_s=768, measured=None),
        _profile("A10", "data sheet", tflops=125, memory_gb=24, gb_per_s=600, measured=None),
        _profile("L4", "data sheet", tflops=121, memory_gb=24, gb_per_s=300, measured=None),
        Profile(
            gpu="cpu",
            source=(
                "a 4 M-parameter Llama in a CPU build of vLLM 0.32 on two AVX-512 cores: the calls of "
                "`halo engines profile`, each at the lower quartile of seven runs; 2.8 % off on calls held out. "
                "Reading KV: from single steps that decode over 200 to 7,000 tokens, since those calls did not tell it"
            ),
            calibrated=True,
            weights_s=0.346e-3,
            token_s=30.0e-6,
            blend=1.0,
            kv_read_s=0.22e-6,
            attend_s=24.9e-9,
            kv_tokens=500_000,
            overhead_s=1.397e-3,
            block_tokens=32,
            step_tokens=16_384,
            sequence_s=25.6e-6,
            call_s=0.718e-3,
            round_trip_s=5.35e-3,
            look_back_s=49.0e-9,
            chunked=False,
            chars_per_token=2.45,
            template_tokens=11.5,
            error=0.028,
        ),
    )
}
