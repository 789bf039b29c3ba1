"""How many calls are on an engine at a time when they come at random, and how long each then takes.

An engine that has n calls writes a token of each in a step, and reads in the same step what falls to it of the prompts
of the others, which come as calls end. So it works off `service(n)` calls in a second: it is a queue in which all share
the server (processor sharing) whose speed depends on how many do. Its stationary state depends on the means of the
calls only, not on how they scatter (Kelly, Reversibility and Stochastic Networks, 1979, section 3.3), so that of a
birth-death chain is exact for the queue; that an engine is such a queue is the model
(`benchmarks/scheduling/fleet_knee.py` says how good a one). Calls that find all places taken wait.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from planner.cost.model import CHUNK_TOKENS
from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass, Slo

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one call, in seconds: to its first token, for each further token, and in all."""

    first_token_s: float
    token_s: float
    call_s: float

    def within(self, slo: Slo) -> bool:
        pairs = ((self.first_token_s, slo.first_token_s), (self.token_s, slo.token_s), (self.call_s, slo.call_s))
        return all(bound is None or taken <= bound for taken, bound in pairs)


class Occupancy:
    """One engine of `kind` that gets `rates` calls of each class in a second; `share` is the quantile it is asked for.

    `places` are the calls that it computes together: as many as its KV has room for at their full length. Where one of
    the calls does not fit at all, or more come than it can do, it is not `stable` and latencies are infinite.
    """

    def __init__(self, kind: EngineKind, rates: Mapping[CallClass, float], share: float = 0.95) -> None:
        self.kind, self.rates = kind, {call: rate for call, rate in rates.items() if rate > 0}
        self.arrivals = sum(self.rates.values())
        self._means = _Means(kind, self.rates)
        self.places = self._means.places
        self.stable = self.arrivals < self.most if self.rates else True
        self._share = share
        self._seen = self._quantile(share) if self.rates and self.stable else 0

    @property
    def most(self) -> float:
        """Calls in a second that it can do at most, with all places taken."""
        return float(self._means.service[-1]) if self.places else 0.0

    @property
    def service(self) -> _Floats:
        """Calls that it works off in a second when there are 1, 2, ... of them, up to as many as there are places."""
        return self._means.service

    @property
    def prefill_busy(self) -> float:
        """The share of its time in which it reads prompts."""
        return min(1.0, self.arrivals * self._means.prefill_s)

    @property
    def busy(self) -> float:
        """The share of its time in which it has any call."""
        if not self.rates:
            return 0.0
        return 1.0 - float(self.chances()[0]) if self.stable else 1.0

    @property
    def running(self) -> float:
        """Calls computed together, on average over the time in which there are any."""
        if not self.rates or not self.stable:
            return float(self.places)
        chances = self.chances()
        inside = float(chances[1:] @ np.arange(1, self.places + 1)) + self.beyond() * self.places
        return inside / max(1e-12, self.busy)

    def latency(self, call: CallClass) -> Latency:
        """That which the share of the calls does not exceed."""
        return self._latency(call, self._seen, self._share)

    def mean_latency(self, call: CallClass) -> Latency:
        """As a call that comes when as many are there as on average takes."""
        if not self.stable or not self.rates:
            return self._latency(call, 0, None)
        chances = self.chances()
        inside = float(chances @ np.arange(self.places + 1)) + self.beyond() * (self.places + 1)
        return self._latency(call, round(inside), None)

    def keeps(self, slos: Mapping[CallClass, Slo]) -> bool:
        """Whether the share of the calls of each class is within its bounds. Where nothing bounds when its first token
        comes, a call waits for no place."""
        if not self.stable or not self.places:
            return False
        waits = self._seen >= self.places
        return all(
            self.latency(call).within(slo) and not (waits and slo.first_token_s is None and slo.call_s is None)
            for call, slo in ((call, slos[call]) for call in self.rates)
        )

    def _latency(self, call: CallClass, seen: int, share: float | None) -> Latency:
        if not self.stable or not self.places:
            return Latency(inf, inf, inf)
        together = max(1, min(seen + 1, self.places))
        token_s = float(self._means.steps[together - 1])
        token_s += 0.0 if share is None else self._jitter_s(call, token_s, share)
        waits_s = max(0, seen + 1 - self.places) / self.most
        first_s = waits_s + self._behind_prompts_s(share) + _prefill_s(self.kind, call)
        return Latency(first_s, token_s, first_s + max(0.0, call.output_tokens - 1) * token_s)

    def _jitter_s(self, call: CallClass, token_s: float, share: float) -> float:
        """For each token of a call: more prompts than on average begin while it is written (they come at random)."""
        written_s = call.output_tokens * token_s
        scatter_s = sqrt(self.arrivals * written_s * self._means.read_squared)
        return max(0.0, NormalDist().inv_cdf(share)) * scatter_s / call.output_tokens

    def _behind_prompts_s(self, share: float | None) -> float:
        """What a prompt waits for the prompts before it: the queue of one server, its wait taken as exponential; the
        mean where no share is given."""
        busy = self.prefill_busy
        if not busy < 1:
            return inf
        mean_s = self.arrivals * self._means.prefill_squared / (2 * (1 - busy))
        if share is None:
            return mean_s
        return mean_s / busy * log(busy / (1 - share)) if busy > 1 - share else 0.0

    def chances(self) -> _Floats:
        """How likely 0, 1, ... calls are there, up to as many as there are places."""
        logs = np.concatenate(([0.0], np.cumsum(np.log(self.arrivals / self._means.service))))
        weights = np.exp(logs - logs.max())
        tail = weights[-1] * self._ratio / (1 - self._ratio)
        return np.asarray(weights / (weights.sum() + tail), float)

    def beyond(self) -> float:
        """How likely more calls are there than there are places."""
        return float(self.chances()[-1]) * self._ratio / (1 - self._ratio)

    @property
    def _ratio(self) -> float:
        return self.arrivals / self.most

    def _quantile(self, share: float) -> int:
        """How many calls a call finds there at most, in that share of cases (arrivals at random see time averages)."""
        up_to = np.cumsum(self.chances())
        if up_to[-1] >= share:
            return int(np.searchsorted(up_to, share))
        left = (1 - share) / max(1e-300, self.beyond())
        return self.places + ceil(log(left) / log(self._ratio))


class _Means:
    """What the calls on an engine are on average: `steps[n - 1]` is how long a token of each takes when there are n,
    with what is read of the others' prompts, and `service[n - 1]` how many of them it works off in a second.

    `prefill_squared` is of what reading a prompt takes alone, `read_squared` of what it adds to steps of others.
    """

    def __init__(self, kind: EngineKind, rates: Mapping[CallClass, float]) -> None:
        arrivals = sum(rates.values())
        self.prefill_s = self.prefill_squared = self.read_squared = 0.0
        output_tokens = context = held = read = look_back_s = 0.0
        for call, rate in rates.items():
            weight, prefill_s = rate / arrivals, _prefill_s(kind, call)
            self.prefill_s += weight * prefill_s
            self.prefill_squared += weight * prefill_s**2
            output_tokens += weight * call.output_tokens
            read += weight * call.prefill_tokens
            look_back_s += weight * _look_back_s(kind, call)
            self.read_squared += weight * (call.prefill_tokens * _token_more_s(kind) + _look_back_s(kind, call)) ** 2
            context += weight * call.output_tokens * (call.prompt_tokens + call.output_tokens / 2)
            held += weight * call.output_tokens * (call.prompt_tokens + call.output_tokens)
        self.places = _places(kind, rates, held / output_tokens) if rates else kind.max_running
        self.steps, self.service = np.zeros(0), np.zeros(0)
        if rates and self.places:
            per_token = _rounded(read / output_tokens), _rounded(look_back_s / output_tokens)
            self.steps = _steps(kind, round(context / output_tokens), self.places, *per_token)
            together = np.arange(1, self.places + 1)
            service = together / (self.prefill_s + max(0.0, output_tokens - 1) * self.steps)
            # A greater batch never works off less: where the model says so, the engine would keep to the smaller one.
            self.service = np.maximum.accumulate(service)


def _places(kind: EngineKind, rates: Mapping[CallClass, float], held_tokens: float) -> int:
    if any(call.prompt_tokens + call.output_tokens > kind.kv_tokens for call in rates):
        return 0
    return min(kind.max_running, int(kind.kv_tokens / held_tokens))


@lru_cache(maxsize=4096)
def _prefill_s(kind: EngineKind, call: CallClass) -> float:
    return kind.prefill_s(call)


@lru_cache(maxsize=4096)
def _look_back_s(kind: EngineKind, call: CallClass) -> float:
    return kind.look_back_s(call)


@lru_cache(maxsize=4096)
def _token_more_s(kind: EngineKind) -> float:
    """What a token of a prompt adds to a step in which others write."""
    return (kind.step_s(1, 0, CHUNK_TOKENS) - kind.step_s(1, 0)) / CHUNK_TOKENS


@lru_cache(maxsize=4096)
def _steps(kind: EngineKind, context_tokens: int, places: int, read: float, look_back_s: float) -> _Floats:
    """Seconds of a step of 1, 2, ... calls, in which `read` tokens of prompts and `look_back_s` fall to each token of
    each other call. A smooth curve, so that some of its points will do."""
    points = np.array(list(_points(places)), float)
    seconds = kind.steps_s(points, context_tokens, (points - 1) * read) + (points - 1) * look_back_s
    return np.interp(np.arange(1, places + 1), points, seconds)


def _rounded(figure: float) -> float:
    """So that equal mixes at unequal rates find the same curve."""
    return float(f"{figure:.6g}")


def _points(most: int) -> Iterator[int]:
    at = 1
    while at < most:
        yield at
        at = max(at + 1, round(at * 1.4))
    yield most
