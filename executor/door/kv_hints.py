"""`kv_hints` in a request: what orchestrators say of its KV, in vLLM's envelope of actions.

vLLM 0.33 has the envelope and no field for it over HTTP. What there is of it in proposals (`kv.retain` with directives
that have a duration, `kv.evict`) becomes the plugin's own hint, which clamps it: how long the KV is of use.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf

from halo_vllm.policy.hints import TTL_S
from planner.ir.values import Json

RETAIN, EVICT = "kv.retain", "kv.evict"


def hints_of(envelope: Json) -> dict[str, Json]:
    """For `vllm_xargs`. What is not understood is passed over: a hint is never a reason to refuse a call."""
    actions = envelope.get("actions") if isinstance(envelope, dict) else None
    told = [action for action in actions if isinstance(action, dict)] if isinstance(actions, list) else []
    if any(action.get("action_type") == EVICT for action in told):
        return {TTL_S: 0.0}
    longest_s = max(_durations_s(told), default=None)
    return {} if longest_s is None else {TTL_S: longest_s}


def _durations_s(actions: Sequence[Mapping[str, Json]]) -> Iterator[float]:
    for action in actions:
        payload = action.get("payload")
        if action.get("action_type") != RETAIN or not isinstance(payload, dict):
            continue
        directives = payload.get("directives")
        for directive in directives if isinstance(directives, list) else ():
            duration = directive.get("duration") if isinstance(directive, dict) else None
            if isinstance(duration, int | float) and not isinstance(duration, bool) and 0 <= duration < inf:
                yield float(duration)
