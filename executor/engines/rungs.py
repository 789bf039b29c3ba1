"""How an engine keeps the KV of programs that wait: the rung of the ladder it stands on."""

import json
import re
from enum import StrEnum

_PREFIX_CACHING = re.compile(r'^vllm:cache_config_info\{.*enable_prefix_caching="(\w+)"', re.MULTILINE)
_PLUGIN_GAUGE = re.compile(r"^halo:programs\b", re.MULTILINE)


class Rung(StrEnum):
    """The highest first. Sessions and hints of vLLM's own reach its offloading tiers only (vLLM 0.32), so no engine
    stands on a rung between the first two."""

    PLUGIN = "halo_vllm"  # admission, order and retention inside the engine
    PREFIX_CACHE = "prefix cache"  # what was used last stays longest; order is Halo's own
    NOTHING = "nothing"
    UNKNOWN = "unknown"  # it does not tell


def has_endpoint(metrics: bytes) -> bool:
    """Whether the plugin's endpoint stands in the server; its scheduler may still be another."""
    return _PLUGIN_GAUGE.search(metrics.decode("utf-8", errors="replace")) is not None


def without_plugin(metrics: bytes) -> Rung:
    found = _PREFIX_CACHING.search(metrics.decode("utf-8", errors="replace"))
    if found is None:
        return Rung.UNKNOWN
    return Rung.PREFIX_CACHE if found[1] == "True" else Rung.NOTHING


def is_at_work(stats: bytes) -> bool:
    """The plugin's counters are empty where another scheduler is at work."""
    try:
        return bool(json.loads(stats))
    except ValueError:
        return False
