"""What vLLM's configuration says of the tier: its folder, its bounds, and what its blocks are."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vllm

from halo_vllm.tier.folder import TierUnusable
from halo_vllm.tier.layout import KvLayout

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec

DEFAULT_CAPACITY_GIB = 4.0
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_OPTIONS = frozenset(("name", "folder", "capacity_gib"))


def folder_of(options: Mapping[str, Any]) -> Path:
    """`folder`, else one in shared memory called by `name`."""
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise TierUnusable(f"kv_connector_extra_config has no {unknown[0]!r}: it takes {', '.join(sorted(_OPTIONS))}")
    if "folder" in options:
        return Path(options["folder"])
    return Path("/dev/shm") / f"halo-kv-{options.get('name', 'default')}"


def capacity_bytes_of(options: Mapping[str, Any]) -> int:
    return int(float(options.get("capacity_gib", DEFAULT_CAPACITY_GIB)) * 1024**3)


def layout_of(vllm_config: "VllmConfig", kv_cache_config: "KVCacheConfig") -> KvLayout:
    """Raises `TierUnusable` for KV caches whose blocks mean something only beside others of the same engine."""
    model, cache, parallel = vllm_config.model_config, vllm_config.cache_config, vllm_config.parallel_config
    _refuse_unfit(vllm_config, kv_cache_config)
    (group,) = kv_cache_config.kv_cache_groups
    return KvLayout(
        model=str(model.model),
        weights=_weights_of(vllm_config),
        config=_digest(model.hf_config.to_dict()),
        dtype=f"{model.dtype} {cache.cache_dtype} {model.quantization}",
        block_tokens=group.kv_cache_spec.block_size,
        block_bytes=_block_bytes_of(group),
        layers=len(group.layer_names),
        ranks=parallel.world_size,
        hash_algorithm=cache.prefix_caching_hash_algo,
        engine=vllm.__version__,
    )


def _refuse_unfit(vllm_config: "VllmConfig", kv_cache_config: "KVCacheConfig") -> None:
    parallel = vllm_config.parallel_config
    if len(kv_cache_config.kv_cache_groups) != 1:
        raise TierUnusable("the tier keeps KV caches of one group: add --disable-hybrid-kv-cache-manager")
    if not vllm_config.cache_config.enable_prefix_caching:
        raise TierUnusable("the tier knows blocks by vLLM's prefix hashes: add --enable-prefix-caching")
    if getattr(vllm_config.cache_config, "calculate_kv_scales", False):
        raise TierUnusable("KV scales measured at run time differ between engines: drop --calculate-kv-scales")
    if (
        max(getattr(parallel, name, 1) for name in ("decode_context_parallel_size", "prefill_context_parallel_size"))
        > 1
    ):
        raise TierUnusable("the tier does not know blocks that are spread by context parallelism")


def _block_bytes_of(group: "KVCacheGroupSpec") -> int:
    spec = group.kv_cache_spec
    each = getattr(spec, "kv_cache_specs", None) or dict.fromkeys(group.layer_names, spec)
    return sum(layer.page_size_bytes for layer in each.values())


def _weights_of(vllm_config: "VllmConfig") -> str:
    """A commit where the model comes from a hub, else the files as they are on this host."""
    model, load = vllm_config.model_config, vllm_config.load_config
    if load.load_format == "dummy":
        return f"dummy {model.seed}"
    if not os.path.isdir(model.model):
        return _commit_of(model)
    files = sorted(path for pattern in _WEIGHTS for path in Path(model.model).glob(pattern))
    return _digest([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files])


def _commit_of(model: "ModelConfig") -> str:
    return f"{model.revision} {getattr(model.hf_config, '_commit_hash', None)}"


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
