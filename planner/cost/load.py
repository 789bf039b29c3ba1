"""What a call adds to the load of an engine: quick enough to be asked for every call and every engine."""

from dataclasses import dataclass
from functools import lru_cache

from planner.cost.model import CHUNK_TOKENS, Replica, decode_seconds, prefill_seconds, replica_for

RUNNING = 32
_LONG = 2 * CHUNK_TOKENS


@dataclass(frozen=True, slots=True)
class LoadRates:
    """The share of an engine's time that tokens take: prompts are read in full chunks, many calls decode at once."""

    prompt_token_s: float
    prompt_pair_s: float
    output_token_s: float
    output_context_s: float

    def seconds(self, prompt_tokens: float, output_tokens: float) -> float:
        reading = prompt_tokens * (self.prompt_token_s + prompt_tokens * self.prompt_pair_s)
        context = prompt_tokens + output_tokens / 2
        return reading + output_tokens * (self.output_token_s + context * self.output_context_s)


def load_seconds(gpu: str, model: str, prompt_tokens: float, output_tokens: float) -> float:
    """The share of an engine's time one call takes: what it adds to the load, not how long it lasts."""
    return rates_for(gpu, model).seconds(prompt_tokens, output_tokens)


@lru_cache(maxsize=1024)
def rates_for(gpu: str, model: str) -> LoadRates:
    """The rates of an engine by the names of its GPU kind and its model."""
    return load_rates(replica_for(gpu, model))


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
