"""What no rule can beat on the modelled engines, however much it knows and whatever it interrupts.

Engines are one machine of unit speed. Each step of an engine takes at least a line below its p-norm (Hölder), and there
are at least as many steps as the KV of answers in the making, or all tokens, need: each such pair is a row of a linear
program over the shares of each step's calls that engines take, whose dual prices make the seconds of engines
comparable. At any such prices no request takes less of the one machine than its calls where they are cheapest. From
there on the bounds are those of one machine: least mean flow time (shortest remaining work first, interrupting), most
requests in time (Lawler's recursion for deadlines in the order of arrivals), and work that has come. No request beats
its longest path either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from heapq import heappop, heappush
from math import ceil, inf
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.scheduling.fleets import path_s, profiles_of
from benchmarks.scheduling.requests import Call, Request, Step
from benchmarks.scheduling.reuse import Reuse, least_read
from benchmarks.scheduling.traces import Arriving
from executor.engines.port import EngineSpec
from planner.cost.profile import Profile
from planner.placement.linear import LinearProgram

_Floats = NDArray[np.float64]

#: Where lines touch the p-norm: the share that tokens have in it.
_TOUCHING = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
ON_TIME = 0.95


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds from arrival to end: the mean, and what 95 % stay within; and from the first arrival to the last end.
    `good` is the most of all that can be in time."""

    mean_s: float
    p95_s: float
    makespan_s: float
    good: float = 1.0


@dataclass(frozen=True, slots=True)
class Prices:
    """`of_engine[e]` are prices of a call's tokens, tokens looked back at in decoding, and pairs in prefill there."""

    of_engine: _Floats

    def work_s(self, request: Request) -> float:
        """What the request takes at least of all engines as one machine."""
        return float((_amounts(request.calls) @ self.of_engine.T).min(axis=1).sum())


def saturation_per_s(requests: Sequence[Request], fleet: Sequence[EngineSpec], reuse: Reuse) -> float:
    """How many requests of that mix a second the fleet keeps up with where prompts are read in full steps and answers
    written in others: what loads are multiples of. One engine alone comes within a tenth of it.

    No bound: steps that hold a little of both are quicker.
    """
    read = [least_read(reuse, request) for request in requests]
    prices = prices_of(read, fleet, in_turns)
    return len(read) / sum(prices.work_s(request) for request in read)


#: From an engine to what calls take of it, as prices of their amounts; the dearest row counts.
Taking = Callable[[Profile], list[_Floats]]


def bounds_of(
    arriving: Sequence[Arriving],
    fleet: Sequence[EngineSpec],
    reuse: Reuse,
    in_time_s: float = inf,
    taking: Taking | None = None,
) -> Bounds:
    """For requests in the order of their arrival, which are in time if they end within `in_time_s` of it. With
    `in_turns` these are no bounds, but what a fleet that does as much as `saturation_per_s` could reach at best."""
    read = [least_read(reuse, one.request) for one in arriving]
    prices = prices_of(read, fleet, taking or at_least)
    at = np.array([one.at for one in arriving])
    work = np.array([prices.work_s(request) for request in read])
    path = np.array([path_s(fleet, request) for request in read])
    return Bounds(
        mean_s=max(float(path.mean()), least_mean_flow_s(at, work)),
        p95_s=least_p95_s(at, work, path),
        makespan_s=max(float((at + path).max()), float((at + work[::-1].cumsum()[::-1]).max())) - float(at[0]),
        good=most_on_time(at, work, path, in_time_s) / len(at),
    )


def at_least(profile: Profile) -> list[_Floats]:
    """What a call takes of the engine whatever else it does, as prices of its amounts: one row for each line and each
    reason why there must be steps."""
    p = profile.blend
    rows = []
    for share in _TOUCHING:
        of_tokens, of_weights = (1.0, 1.0) if p <= 1 else (share ** (1 - 1 / p), (1 - share) ** (1 - 1 / p))
        step_s = profile.overhead_s + of_weights * profile.weights_s
        looking = np.array([of_tokens * profile.token_s, profile.kv_read_s, profile.attend_s])
        rows.append(looking + np.array([0.0, step_s / profile.kv_tokens, 0.0]))
        rows.append(looking + np.array([step_s / profile.step_tokens, 0.0, 0.0]))
    return rows


def in_turns(profile: Profile) -> list[_Floats]:
    """What a call takes of the engine if steps are full of prompts, or full of answers' KV."""
    token_s = profile.matrix_s(profile.step_tokens) / profile.step_tokens
    decode_s = profile.kv_read_s + (profile.overhead_s + profile.weights_s) / profile.kv_tokens
    return [np.array([token_s, decode_s, profile.attend_s])]


def prices_of(requests: Sequence[Request], fleet: Sequence[EngineSpec], taking: Taking = at_least) -> Prices:
    """The dual prices of least makespan for the mean calls of each step."""
    amounts = _amounts_by_step(requests)
    rows_of = [taking(profile) for profile in profiles_of(fleet)]
    rows = [row for of_engine in rows_of for row in of_engine]
    engines = [engine for engine, of_engine in enumerate(rows_of) for _ in of_engine]
    program = LinearProgram()
    makespan = program.add_variable(cost=1.0)
    shares = [[program.add_variable() for _ in fleet] for _ in amounts]
    for row, engine in zip(rows, engines, strict=True):
        used = {share[engine]: -float(amount @ row) for share, amount in zip(shares, amounts, strict=True)}
        program.add_row({makespan: 1.0, **used}, 0.0)
    for share in shares:
        program.add_row(dict.fromkeys(share, 1.0), 1.0)
    found = program.solve().prices[: len(rows)]
    prices = np.zeros((len(fleet), 3))
    for price, row, engine in zip(np.maximum(found, 0.0) / np.maximum(found, 0.0).sum(), rows, engines, strict=True):
        prices[engine] += price * row
    return Prices(prices)


def least_mean_flow_s(at: _Floats, work: _Floats) -> float:
    """Shortest remaining work first, interrupting: no rule has a lower mean on one machine (Schrage, 1968)."""
    return (sum(shortest_first_ends(at, work)) - float(at.sum())) / len(at)


def shortest_first_ends(at: _Floats, work: _Floats) -> list[float]:
    """When one machine ends works that come in this order, the least remaining first, interrupting. At no time has any
    rule ended more of them (Schrage, 1968), so the n-th end of any is no sooner than the n-th of these."""
    left: list[float] = []
    found: list[float] = []
    for begins, ends, new in zip(at, [*at[1:], np.inf], work, strict=True):
        now = float(begins)
        heappush(left, float(new))
        while left and now < ends:
            least = heappop(left)
            worked = min(least, float(ends) - now)
            now += worked
            if worked < least:
                heappush(left, least - worked)
            else:
                found.append(now)
    return found


def least_p95_s(at: _Floats, work: _Floats, path: _Floats) -> float:
    """The least `d` such that 95 % can end within `d` of their arrival, found to a thousandth."""
    needed = ceil(ON_TIME * len(at))
    low, high = 0.0, float(max(path.max(), work.sum()))
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if most_on_time(at, work, path, middle) >= needed:
            high = middle
        else:
            low = middle
    return low


def most_on_time(at: _Floats, work: _Floats, path: _Floats, within_s: float) -> int:
    """How many of the requests one machine can end within that of their arrival.

    `ends[k]` is the earliest end of any `k` of those looked at so far.
    """
    ends = np.full(len(at) + 1, np.inf)
    ends[0] = 0.0
    for begins, new, longest in zip(at, work, path, strict=True):
        if longest > within_s:
            continue
        with_it = np.maximum(ends[:-1], begins) + new
        with_it[with_it > begins + within_s] = np.inf
        ends[1:] = np.minimum(ends[1:], with_it)
    return int(np.flatnonzero(np.isfinite(ends)).max())


def p95(values: Sequence[float]) -> float:
    """The least of the values that 95 % of them do not exceed."""
    return sorted(values)[ceil(ON_TIME * len(values)) - 1]


def _amounts(calls: Sequence[Call]) -> _Floats:
    """Of each call: tokens computed, tokens looked back at while decoding, pairs of tokens in prefill.

    The first token of an answer comes with the prompt's last; each further one looks back at all before it.
    """
    prompts = np.array([call.prompt_tokens for call in calls], float)
    steps = np.array([call.output_tokens - 1 for call in calls], float)
    return np.stack([prompts + steps, steps * prompts + steps * (steps + 1) / 2, prompts**2 / 2], axis=1)


def _amounts_by_step(requests: Sequence[Request]) -> list[_Floats]:
    of_step = [[call for request in requests for call in request.calls if call.step is step] for step in Step]
    return [_amounts(calls).sum(axis=0) for calls in of_step if calls]


def mean_bounds(bounds: Sequence[Bounds]) -> Bounds:
    """Over seeds."""
    return Bounds(*(fmean(getattr(one, field.name) for one in bounds) for field in fields(Bounds)))
