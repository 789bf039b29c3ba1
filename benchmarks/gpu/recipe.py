"""How the ladder's engines run on one GPU, and whether they fit there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.card import Card
from benchmarks.gpu.shape import LLAMA_31_8B, LlamaShape
from benchmarks.kv.arms import Arm, Flags, Serving
from benchmarks.kv.lab import EngineSize
from benchmarks.kv.real_lab import SERVING_SETTINGS, refuse_missing_plugin, serving_arguments
from benchmarks.kv.traces import Scale
from executor.engines.local_recipe import EngineRecipe

GIB = 2**30
BLOCK_TOKENS = 16
#: Beside weights and KV: activations, CUDA graphs, the driver's own.
OTHER_BYTES = 4 * GIB
#: What vLLM's API server runs with on a GPU of 70 GiB or more, and on a smaller one.
LARGE_GPU_BYTES = 70 * GIB
STOCK_LARGE, STOCK_SMALL = Flags(max_running=1024, step_tokens=8192), Flags(max_running=256, step_tokens=2048)
#: A first start compiles.
START_TIMEOUT_S = 900.0
SETTINGS = {"VLLM_TARGET_DEVICE": "cuda", **SERVING_SETTINGS}


@dataclass(frozen=True, slots=True)
class GpuEngine:
    """An engine to be: `memory_share` is the part of the GPU's memory that it may take."""

    python: Path
    model: Path
    logs: Path
    size: EngineSize
    memory_share: float

    def recipe(self, serving: Serving, port: int) -> EngineRecipe:
        """The arguments after the recipe's own replace them: what a CPU needs is taken back. Raises `CannotRun`."""
        refuse_missing_plugin(serving)
        return EngineRecipe(
            python=self.python,
            model=self.model,
            log=self.logs / f"vllm-gpu-{port}.log",
            port=port,
            served_name="llama-shaped",
            context_tokens=self.size.context_tokens,
            block_tokens=self.size.block_tokens,
            kv_blocks=self.size.kv_blocks,
            max_running=serving.flags.max_running,
            start_timeout_s=START_TIMEOUT_S,
            extra=(
                *("--load-format", "dummy", "--no-enforce-eager"),
                *("--gpu-memory-utilization", f"{self.memory_share:g}"),
                *serving_arguments(serving),
            ),
            settings=SETTINGS,
        )


def size_of(kv_gib: float, scale: Scale, shape: LlamaShape = LLAMA_31_8B) -> EngineSize:
    """With so much KV. A context ends in a whole block, and has room for a last answer."""
    blocks = int(kv_gib * GIB) // (shape.kv_bytes_per_token * BLOCK_TOKENS)
    context = -(-(scale.context_tokens + scale.largest_output_tokens) // BLOCK_TOKENS) * BLOCK_TOKENS
    return EngineSize(kv_blocks=blocks, block_tokens=BLOCK_TOKENS, context_tokens=context)


def stock_flags(card: Card | None) -> Flags:
    return STOCK_SMALL if card and card.device and card.memory_bytes < LARGE_GPU_BYTES else STOCK_LARGE


def problems(engine: GpuEngine, card: Card | None, shape: LlamaShape = LLAMA_31_8B) -> Iterator[str]:
    """Why the engines could not run, each with its fix. Without a card, only what holds for any."""
    size = engine.size
    if size.kv_tokens < size.context_tokens:
        yield f"the KV cache has {size.kv_tokens:,} tokens, a context up to {size.context_tokens:,}: raise --kv-gib"
    if size.context_tokens > shape.context_tokens:
        yield f"the model's contexts end at {shape.context_tokens:,} tokens: lower --context-tokens"
    if card is None:
        return
    if not card.device:
        yield "PyTorch finds no GPU: --dry-run needs none"
        return
    needed = shape.weight_bytes + size.kv_tokens * shape.kv_bytes_per_token + OTHER_BYTES
    share = engine.memory_share * card.memory_bytes
    if needed > share:
        yield (
            f"an engine needs {needed / GIB:.0f} GiB and may take {share / GIB:.0f} GiB of the GPU:"
            " lower --kv-gib or --alive"
        )


def unable(arm: Arm, card: Card | None) -> str | None:
    """Why an arm cannot be run with this kit or this vLLM."""
    if arm.door:
        return "Halo's door is not carried to the GPU"
    if arm.telling.after and card is not None and not card.endpoint_plugins:
        return f"vLLM {card.vllm} has no endpoint plugins: hints go with the calls (vllm_xargs) only"
    return None
