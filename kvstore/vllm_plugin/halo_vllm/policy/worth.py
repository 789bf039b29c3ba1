"""What keeping the KV of a waiting program is worth, in seconds, from what was measured on this engine."""

from dataclasses import dataclass

UNMEASURED_S = 2.0
"""The break-even pause before anything was measured: the pin of Continuum's released code (vllm-continuum)."""

MOST_TSTARS = 2.0
"""The break-even pause is never longer than this many T*: between T*/2 and 2 T* the optimum is flat (measured)."""


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """Seconds to prefill a context: `s_per_token` for each token, `s_per_token2` for each square of the tokens."""

    s_per_token: float
    s_per_token2: float = 0.0

    def seconds(self, tokens: int) -> float:
        return tokens * (self.s_per_token + tokens * self.s_per_token2)


@dataclass(frozen=True, slots=True)
class Worth:
    """`prefill_s` and `queueing_s`: what a miss costs. `break_even_s`: the pause over which holding costs as much as a
    miss. `tstar_s`: seconds to prefill the whole KV once."""

    prefill_s: float
    queueing_s: float
    break_even_s: float
    tstar_s: float

    @property
    def saved_s(self) -> float:
        """Seconds a hit saves (B of Continuum, arXiv 2511.02230, eq. 2)."""
        return self.prefill_s + self.queueing_s


def tstar_s(capacity_tokens: int, prefill: PrefillCost) -> float:
    """T* = KV capacity / prefill rate: the longest pause worth holding over, whatever the length of the context, since
    what is held and what a miss computes both grow with it."""
    return capacity_tokens * prefill.s_per_token


def worth_of(
    capacity_tokens: int, prefill: PrefillCost | None, context_tokens: int, own_tokens: int, queueing_s: float = 0.0
) -> Worth:
    """The worth of `own_tokens` at the end of a context, the rest of which others keep anyway.

    Holding takes own/capacity of an engine that is full; a miss takes the prefill of own tokens from all of it, and
    makes the program queue for `queueing_s`. The pause where both are equal is T* for a linear prefill, longer where
    attention makes late tokens dearer. `prefill` is None until it is measured.
    """
    if prefill is None:
        return Worth(UNMEASURED_S, 0.0, UNMEASURED_S, UNMEASURED_S)
    own = min(max(own_tokens, 1), max(context_tokens, 1))
    bound_s = tstar_s(capacity_tokens, prefill)
    prefill_s = prefill.seconds(max(context_tokens, own)) - prefill.seconds(max(context_tokens, own) - own)
    queue_s = max(queueing_s, 0.0)
    even_s = prefill_s * capacity_tokens / own + queue_s
    return Worth(prefill_s, queue_s, min(even_s, MOST_TSTARS * bound_s), bound_s)
