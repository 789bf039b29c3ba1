"""How fast each GPU kind serves an 8B-parameter model in bf16: priors, from data sheets, not measurements.

Prefill is bound by arithmetic: half of the dense bf16 peak / 16 GFLOP a token. Decode is bound by memory: 60 % of the
bandwidth / 16 GB of weights, times a batch of 32. Good enough to tell a fast engine from a slow one; the planner's
calibrated cost model replaces them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """Tokens per second of a whole engine: prompt tokens read, and output tokens written over all running calls."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    calibrated: bool = False


def _from_data_sheet(bf16_tflops: float, memory_gb_per_s: float) -> GpuSpeed:
    return GpuSpeed(0.5 * bf16_tflops * 1e12 / 16e9, 0.6 * memory_gb_per_s / 16 * 32)


SPEEDS = {
    "H100": _from_data_sheet(989, 3350),
    "A100": _from_data_sheet(312, 2039),
    "L40S": _from_data_sheet(362, 864),
    "A6000": _from_data_sheet(155, 768),
    "A10": _from_data_sheet(125, 600),
    "L4": _from_data_sheet(121, 300),
    # A 4 M-parameter Llama on two AVX-512 cores, as `halo engines start --cpu` runs it; measured.
    "cpu": GpuSpeed(8000, 3100, calibrated=True),
}
UNKNOWN = SPEEDS["A100"]


def call_seconds(gpu: str, prompt_tokens: int, output_tokens: int) -> float:
    """The share of an engine's time one call takes: what it adds to the load, not how long it lasts."""
    speed = SPEEDS.get(gpu, UNKNOWN)
    return prompt_tokens / speed.prefill_tokens_per_s + output_tokens / speed.decode_tokens_per_s
