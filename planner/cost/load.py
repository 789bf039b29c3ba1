"""What a call adds to the load of an engine: quick enough to be asked for every call and every engine."""

from functools import lru_cache

from planner.cost.model import CHUNK_TOKENS, Replica, decode_seconds, prefill_seconds, replica_for
from planner.cost.profile import Profile
from planner.cost.rates import LoadRates

RUNNING = 32
_LONG = 2 * CHUNK_TOKENS


def load_seconds(
    gpu: str,
    model: str,
    prompt_tokens: float,
    output_tokens: float,
    degree: int | None = None,
    profile: Profile | None = None,
) -> float:
    """The share of an engine's time one call takes: what it adds to the load, not how long it lasts.

    An engine that was measured is as fast as its `profile` says, whatever its GPU kind.
    """
    rates = rates_of(profile) if profile is not None else rates_for(gpu, model, degree)
    return rates.seconds(prompt_tokens, output_tokens)


def rates_beside(
    gpu: str, model: str, running: float, degree: int | None = None, profile: Profile | None = None
) -> LoadRates:
    """The rates of an engine that decodes `running` calls beside each other."""
    if profile is not None:
        return profile.load_rates(running)
    return load_rates(replica_for(gpu, model, degree), running)


@lru_cache(maxsize=1024)
def rates_for(gpu: str, model: str, degree: int | None = None) -> LoadRates:
    """The rates of an engine by the names of its GPU kind and its model, on `degree` GPUs."""
    return load_rates(replica_for(gpu, model, degree))


@lru_cache(maxsize=256)
def rates_of(profile: Profile) -> LoadRates:
    """The rates of an engine that was measured."""
    return profile.load_rates(RUNNING)


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
