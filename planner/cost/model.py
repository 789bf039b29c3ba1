"""How many seconds model calls take: a smooth roofline of each step of an engine.

A step multiplies its tokens with all weights. Each product takes the p-norm of its arithmetic at the peak and its bytes
at full bandwidth, each over its efficiency: `max`, the usual roofline, is its limit for great p and is 10 to 20 % off
where the two are near each other. To that come attention, the all-reduces of a tensor-parallel group, and what the
engine itself takes. The profile of the operators follows Vidur (MLSys 2024, section 4); how the products are put
together and all coefficients are ours (`planner.cost.calibrate`).

Everything here is a function of values: no clock, no measurement. Nothing falls when a call has more tokens.
"""

from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.cost.gpus import REFERENCE, Gpu, gpu_named
from planner.cost.quantiles import Quantiles
from planner.cost.shapes import LLAMA_3_8B, TINY_LLAMA, ModelShape, shape_named

CHUNK_TOKENS = 2048
_ACTIVATION_BYTES = 2
_MEMORY_SHARE = 0.9  # vLLM's default of what it takes of a device
_WORKSPACE_BYTES = 2e9  # activations, CUDA graphs and context; an assumption
_LINK_EFFICIENCY = 0.78  # this and the next are fitted to Vidur's all-reduces of 2, 4 and 8 H100: 9.8 % mean error
_ALL_REDUCE_S = 28e-6
_DEGREES = (1, 2, 4, 8)

#: One figure, or an array of them: a fit asks for thousands at once.
Figures = TypeVar("Figures", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a model on `degree` GPUs of a kind, split by tensor parallelism."""

    gpu: Gpu
    shape: ModelShape
    degree: int = 1


def replica_for(gpu: str, model: str, degree: int | None = None) -> Replica:
    """What is believed of an engine by the names of its GPU kind and its model.

    An unknown kind is taken for the reference, an unknown model for Llama-3-8B (on the CPU engine: for the tiny one).
    Without a degree, it is the least at which the weights leave room for KV.
    """
    kind = gpu_named(gpu) or REFERENCE
    shape = shape_named(model) or (TINY_LLAMA if kind.name == "cpu" else LLAMA_3_8B)
    if degree is not None:
        return Replica(kind, shape, degree)
    fitting = (Replica(kind, shape, degree) for degree in _DEGREES)
    return next((replica for replica in fitting if kv_tokens(replica) > 0), Replica(kind, shape, _DEGREES[-1]))


def kv_tokens(replica: Replica) -> int:
    """How many tokens' keys and values have room beside the weights; 0 where the weights alone are too many."""
    shape = replica.shape
    free = room_bytes(replica) - shape.weights * shape.weight_bytes
    return max(0, int(free / (shape.kv_bytes_per_token * _kv_copies(replica))))


def room_bytes(replica: Replica) -> float:
    """What an engine has for weights and KV together."""
    return replica.degree * (_MEMORY_SHARE * replica.gpu.memory_gb * 1e9 - _workspace_bytes(replica.gpu))


def prefill_seconds(
    replica: Replica, prompt_tokens: float, cached_tokens: float = 0.0, chunk_tokens: int = CHUNK_TOKENS
) -> float:
    """From the first step to the first token of one prompt alone, read in chunks.

    Cached tokens cost nothing but that the others look back at them. At least one token is computed.
    """
    new = max(1.0, prompt_tokens - cached_tokens)
    chunks, rest = divmod(new, chunk_tokens)
    seconds = chunks * matrix_seconds(replica, chunk_tokens)
    seconds += matrix_seconds(replica, rest) if rest else 0.0
    steps = ceil(new / chunk_tokens)
    return seconds + _look_back_seconds(replica, prompt_tokens, new, chunk_tokens) + steps * _step_s(replica, 1)


def decode_seconds(replica: Replica, context_tokens: float, running: float = 1.0) -> float:
    """One step in which each of `running` calls, of `context_tokens` on average, writes one token."""
    matrices = matrix_seconds(replica, running)
    return matrices + _kv_read_seconds(replica, running * context_tokens) + _step_s(replica, running)


def mixed_seconds(replica: Replica, context_tokens: float, running: Figures, prompt_tokens: Figures) -> Figures:
    """One step in which `running` calls write a token each and `prompt_tokens` of others are read, which look back at
    nothing: see `look_back_seconds`."""
    matrices = matrix_seconds(replica, running + prompt_tokens)
    return matrices + _kv_read_seconds(replica, running * context_tokens) + _step_s(replica, running)


def look_back_seconds(
    replica: Replica, prompt_tokens: float, cached_tokens: float = 0.0, chunk_tokens: int = CHUNK_TOKENS
) -> float:
    """The part of reading a prompt in which its tokens look at those before them."""
    new = max(1.0, prompt_tokens - cached_tokens)
    return _look_back_seconds(replica, prompt_tokens, new, chunk_tokens)


def call_seconds(
    replica: Replica,
    prompt_tokens: float,
    output_tokens: float | Quantiles,
    cached_tokens: float = 0.0,
    running: float = 1.0,
) -> Quantiles:
    """How long a call lasts while `running` calls, itself included, decode beside each other.

    Longer answers take longer, so each quantile of the length gives that quantile of the time.
    """
    lengths = output_tokens if isinstance(output_tokens, Quantiles) else Quantiles.exactly(output_tokens)
    first = prefill_seconds(replica, prompt_tokens, cached_tokens)
    return lengths.map(lambda length: first + _decoding_seconds(replica, prompt_tokens, length, running))


def matrix_seconds(replica: Replica, tokens: Figures) -> Figures:
    """All layers over `tokens` tokens in one step, without attention and the engine's own time."""
    activations = tokens * replica.shape.hidden * _ACTIVATION_BYTES
    layer = layer_seconds(replica, tokens) + 2 * all_reduce_seconds(replica, activations)
    return replica.shape.layers * layer


def layer_seconds(replica: Replica, tokens: Figures) -> Figures:
    """The token-level operators of one layer on one GPU of the group: four products, norms, rotation, activation.

    This is what operator tables measure (attention kernels and all-reduces are not in it).
    """
    gpu, shape, degree = replica.gpu, replica.shape, replica.degree
    products = (
        (shape.hidden, (shape.query_width + 2 * shape.kv_width) / degree),
        (shape.query_width / degree, shape.hidden),
        (shape.hidden, 2 * shape.intermediate / degree),
        (shape.intermediate / degree, shape.hidden),
    )
    seconds = gpu.efficiency.launch_s + _pointwise_bytes(replica, tokens) / _bytes_per_s(gpu)
    for rows, columns in products:
        seconds += _product_seconds(replica, tokens, rows, columns)
    return seconds


def all_reduce_seconds(replica: Replica, size_bytes: Figures) -> Figures:
    """Adding up `size_bytes` that each GPU of the group has: in a ring, each sends nearly all of them twice."""
    if replica.degree == 1:
        return 0 * size_bytes
    sent = 2 * (1 - 1 / replica.degree) * size_bytes
    return _ALL_REDUCE_S + sent / (_LINK_EFFICIENCY * replica.gpu.link_gb_per_s * 1e9)


def p_norm(left: Figures, right: Figures, p: float) -> Figures:
    """Between `max` and the sum: two times that overlap in part. `p` is 1 or more."""
    result: Figures = (left**p + right**p) ** (1 / p)
    return result


def _product_seconds(replica: Replica, tokens: Figures, rows: float, columns: float) -> Figures:
    gpu, weights = replica.gpu, rows * columns
    compute = 2 * weights * tokens / (gpu.efficiency.compute * gpu.peak_flops)
    moved = weights * replica.shape.weight_bytes + tokens * (rows + columns) * _ACTIVATION_BYTES
    return p_norm(compute, moved / _bytes_per_s(gpu), gpu.efficiency.blend)


def _pointwise_bytes(replica: Replica, tokens: Figures) -> Figures:
    """Two norms, one addition, the rotation, the activation; each reads and writes what it works on."""
    shape = replica.shape
    split = 2 * (shape.query_width + shape.kv_width) + 3 * shape.intermediate
    return tokens * _ACTIVATION_BYTES * (7 * shape.hidden + split / replica.degree)


def _look_back_seconds(replica: Replica, prompt_tokens: float, new: float, chunk_tokens: int) -> float:
    """Attention in prefill: each new token looks at all before it, and each chunk reads the KV of all before it."""
    gpu, shape = replica.gpu, replica.shape
    pairs = new * (max(prompt_tokens, new) - new) + new * new / 2
    flops = 4 * shape.layers * shape.query_width / replica.degree * pairs
    compute = flops / (gpu.efficiency.attention * gpu.peak_flops)
    return p_norm(compute, _kv_read_seconds(replica, pairs / chunk_tokens + new / 2), gpu.efficiency.blend)


def _kv_read_seconds(replica: Replica, tokens: Figures) -> Figures:
    of_one_gpu = replica.shape.kv_bytes_per_token * _kv_copies(replica) / replica.degree
    return tokens * of_one_gpu / _bytes_per_s(replica.gpu)


def _decoding_seconds(replica: Replica, prompt_tokens: float, output_tokens: float, running: float) -> float:
    """The first token comes with the prefill. Contexts grow evenly, so the middle one stands for all."""
    steps = max(0.0, output_tokens - 1)
    return steps * decode_seconds(replica, prompt_tokens + output_tokens / 2, running)


def _step_s(replica: Replica, sampled: Figures) -> Figures:
    """What a step takes beside its layers: the engine's own work, and the output matrix for each token sampled."""
    shape = replica.shape
    return replica.gpu.efficiency.step_s + _product_seconds(
        replica, sampled, shape.hidden, shape.vocab / replica.degree
    )


def _kv_copies(replica: Replica) -> float:
    """Heads of keys and values that do not go round are copied."""
    return max(1.0, replica.degree / replica.shape.kv_heads)


def _workspace_bytes(gpu: Gpu) -> float:
    return min(_WORKSPACE_BYTES, 0.1 * gpu.memory_gb * 1e9)


def _bytes_per_s(gpu: Gpu) -> float:
    return gpu.efficiency.memory * gpu.peak_bytes_per_s
