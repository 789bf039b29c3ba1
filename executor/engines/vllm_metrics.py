"""What vLLM tells of itself at `/metrics`, in the text format of Prometheus."""

import re

_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def kv_tokens_from(body: bytes) -> int | None:
    """The tokens for which the KV cache has room, over all engine cores of the server; None where it does not tell."""
    text = body.decode("utf-8", errors="replace")
    rooms = [_room(dict(_LABEL.findall(labels))) for labels in _CACHE_CONFIG.findall(text)]
    return sum(rooms) or None


def _room(labels: dict[str, str]) -> int:
    blocks, tokens = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(tokens) if blocks.isdecimal() and tokens.isdecimal() else 0
