"""What of a model decides how long it takes: its shape, as its `config.json` gives it."""

from dataclasses import dataclass

_ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder with gated MLPs (Llama, Qwen2). `weight_bytes` is per weight: 2 is bf16, 1 is fp8."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    head_dim: int = 128
    weight_bytes: float = 2.0

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Of keys alone; values are as wide."""
        return self.kv_heads * self.head_dim

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_width * _ACTIVATION_BYTES

    @property
    def layer_weights(self) -> int:
        attention = self.hidden * (2 * self.query_width + 2 * self.kv_width)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def weights(self) -> int:
        """With the embedding and the output matrix, counted apart."""
        return self.layers * self.layer_weights + 2 * self.vocab * self.hidden

    def adapter_bytes(self, rank: int) -> float:
        """Of a LoRA adapter (arXiv 2106.09685) of all matrices of all layers: beside each a pair as thin as `rank`."""
        attention = 2 * (self.hidden + self.query_width) + 2 * (self.hidden + self.kv_width)
        return rank * self.layers * (attention + 3 * (self.hidden + self.intermediate)) * _ACTIVATION_BYTES


LLAMA_2_7B = ModelShape("Llama-2-7B", 32, 4096, 32, 32, 11008, 32000)
LLAMA_2_70B = ModelShape("Llama-2-70B", 80, 8192, 64, 8, 28672, 32000)
LLAMA_3_8B = ModelShape("Llama-3-8B", 32, 4096, 32, 8, 14336, 128256)
LLAMA_3_70B = ModelShape("Llama-3-70B", 80, 8192, 64, 8, 28672, 128256)
QWEN_2_5_7B = ModelShape("Qwen2.5-7B", 28, 3584, 28, 4, 18944, 152064)
QWEN_2_5_32B = ModelShape("Qwen2.5-32B", 64, 5120, 40, 8, 27648, 152064)
TINY_LLAMA = ModelShape("tiny-llama", 4, 256, 8, 4, 688, 2048, head_dim=32)

SHAPES = (LLAMA_2_7B, LLAMA_2_70B, LLAMA_3_8B, LLAMA_3_70B, QWEN_2_5_7B, QWEN_2_5_32B, TINY_LLAMA)

#: Families whose members are of one shape, as they write their names: Llama 3.1 and 3.3 changed the training only.
_SPELLINGS = (("llama-3.1-", "llama-3-"), ("llama-3.3-", "llama-3-"))


def shape_named(model: str) -> ModelShape | None:
    """The known shape that `model` names, as in `meta-llama/Llama-3.1-8B-Instruct`; `None` where none is known."""
    name = model.lower()
    for spelled, plain in _SPELLINGS:
        name = name.replace(spelled, plain)
    return next((shape for shape in SHAPES if shape.name.lower() in name), None)
