"""What is measured on this engine while it runs: its prefill rate, what a miss queues for, how programs grow."""

from halo_vllm.policy.worth import PrefillCost

ENOUGH = 8


class Mean:
    """A mean in which each value weighs `keep` times as much as the one after it."""

    def __init__(self, keep: float = 0.98) -> None:
        assert 0.0 < keep < 1.0
        self._keep, self._weight, self._sum = keep, 0.0, 0.0

    def saw(self, value: float) -> None:
        self._weight = self._weight * self._keep + 1.0
        self._sum = self._sum * self._keep + value

    def value(self, unseen: float) -> float:
        """`unseen` before anything was seen."""
        return self._sum / self._weight if self._weight else unseen


class PrefillMeter:
    """Seconds of a token of prefill: the slope of step time over prefilled tokens, old steps forgotten.

    Steps that only decode set the foot of the line. `quadratic_s`, if known from a profile, is seconds for the square
    of a token; it is not measured here.
    """

    def __init__(self, quadratic_s: float = 0.0, keep: float = 0.998) -> None:
        self._quadratic_s, self._keep = quadratic_s, keep
        self._prefills = 0
        self._cost: PrefillCost | None = None
        self._weight = self._tokens = self._seconds = self._spread = self._together = 0.0

    def step(self, prefill_tokens: int, step_s: float) -> None:
        """One step of the engine, without the time it had nothing to do."""
        self._prefills += prefill_tokens > 0
        self._cost = None
        keep = self._keep
        self._weight = weight = self._weight * keep + 1.0
        off = prefill_tokens - self._tokens
        self._tokens = tokens = self._tokens + off / weight
        self._seconds = seconds = self._seconds + (step_s - self._seconds) / weight
        self._spread = self._spread * keep + off * (prefill_tokens - tokens)
        self._together = self._together * keep + off * (step_s - seconds)

    def cost(self) -> PrefillCost | None:
        """None until eight steps with prefill were seen."""
        if self._cost is None and self._prefills >= ENOUGH and self._tokens > 0.0:
            slope = self._together / self._spread if self._spread > 0.0 else 0.0
            self._cost = PrefillCost(slope if slope > 0.0 else self._seconds / self._tokens, self._quadratic_s)
        return self._cost


class QueueingMeter:
    """How much longer a call waits for memory when its KV is not there.

    Every admission counts, of new programs too: if only misses of waiting programs did, holding their KV would hide
    what it saves (the flaw of T in Continuum, arXiv 2511.02230, which starts at 0 and is fed by evicted requests only).
    `wait_s` counts from when the call might have run: how long admission held a new program is no part of it.
    """

    def __init__(self) -> None:
        self._warm, self._cold = Mean(), Mean()

    def admitted(self, wait_s: float, *, warm: bool) -> None:
        (self._warm if warm else self._cold).saw(max(wait_s, 0.0))

    def miss_s(self) -> float:
        """Seconds of queueing a miss costs; 0 before a miss was seen."""
        return max(self._cold.value(0.0) - self._warm.value(0.0), 0.0)
