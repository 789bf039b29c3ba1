"""A model folder with the shape of Llama 3.1 8B and no weights: `--load-format dummy` makes those up.

Its tokenizer has a word for every id (`t17` for 17): the ladder's prompts are token ids, and its answers are not read.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a Llama with grouped-query attention, in 16-bit weights and KV."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    context_tokens: int

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_heads * self.head_size
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + 2 * self.vocabulary * self.hidden + self.hidden

    @property
    def weight_bytes(self) -> int:
        return 2 * self.parameters

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * 2 * self.layers * self.kv_heads * self.head_size


#: As in its published configuration.
LLAMA_31_8B = LlamaShape(
    layers=32,
    hidden=4096,
    intermediate=14_336,
    heads=32,
    kv_heads=8,
    vocabulary=128_256,
    context_tokens=131_072,
)
BEGIN, END, UNKNOWN = 128_000, 128_001, 0


def write_model(folder: Path, shape: LlamaShape = LLAMA_31_8B) -> Path:
    """Writes the three files; what is there is replaced. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "config.json": config_of(shape),
        "tokenizer.json": _tokenizer(shape.vocabulary),
        "tokenizer_config.json": _tokenizer_config(shape),
    }.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def config_of(shape: LlamaShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context_tokens,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": _within(BEGIN, shape),
        "eos_token_id": _within(END, shape),
    }


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {f"t{number}": number for number in range(vocabulary)},
            "unk_token": f"t{UNKNOWN}",
        },
    }


def _tokenizer_config(shape: LlamaShape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": f"t{_within(BEGIN, shape)}",
        "eos_token": f"t{_within(END, shape)}",
        "model_max_length": shape.context_tokens,
        "clean_up_tokenization_spaces": False,
    }


def _within(token: int, shape: LlamaShape) -> int:
    """Of a smaller vocabulary, the same place before its end."""
    return token if token < shape.vocabulary else shape.vocabulary - (LLAMA_31_8B.vocabulary - token)
