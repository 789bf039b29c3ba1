"""What a call adds to the load of an engine: quick enough to be asked for every call and every engine."""

from planner.cost.model import CHUNK_TOKENS, Replica, decode_seconds, prefill_seconds, replica_for
from planner.cost.profile import Profile
from planner.cost.rates import LoadRates

RUNNING = 32
_LONG = 2 * CHUNK_TOKENS


def rates_beside(
    gpu: str, model: str, running: float, degree: int | None = None, profile: Profile | None = None
) -> LoadRates:
    """The rates of an engine that decodes `running` calls beside each other."""
    if profile is not None:
        return profile.load_rates(running)
    return load_rates(replica_for(gpu, model, degree), running)


def load_rates(replica: Replica, running: float = RUNNING) -> LoadRates:
    """A line through prompts of one and two chunks, another through `running` calls without and with a context."""
    one, two = prefill_seconds(replica, CHUNK_TOKENS), prefill_seconds(replica, _LONG)
    pair_s = max(0.0, (two / _LONG - one / CHUNK_TOKENS) / CHUNK_TOKENS)
    bare, full = decode_seconds(replica, 0, running), decode_seconds(replica, CHUNK_TOKENS, running)
    return LoadRates(
        prompt_token_s=one / CHUNK_TOKENS - CHUNK_TOKENS * pair_s,
        prompt_pair_s=pair_s,
        output_token_s=bare / running,
        output_context_s=(full - bare) / CHUNK_TOKENS / running,
    )
