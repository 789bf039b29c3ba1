"""How long, and how firmly, the KV of a program that waits is kept: one rule a name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log
from types import MappingProxyType

from halo_vllm.policy.durations import Durations
from halo_vllm.policy.forecast import Expected, Forecast, Unknown, hold_until_age_s, index, paper_ttl_s, returns
from halo_vllm.policy.survival import survival
from halo_vllm.policy.tools import ToolKey
from halo_vllm.policy.turns import Turns
from halo_vllm.policy.worth import Worth

FIXED_S = 2.0
PAPER_ENOUGH = 100
COLD_S = 2.0
"""The least the paper's rule holds before it has seen enough: its ln B is 1 to 2 s where a prefill takes seconds,
but nothing where it takes less. With the two seconds of the released code it is the stronger baseline."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A program between two calls. `since_s`: when its last call finished. `own_blocks`: blocks of KV nobody else uses.

    `tools`: what it waits for, empty if unknown. `eta_s` and `ttl_s` are hints, clamped already, in seconds from
    `since_s`: when it is said to be back, and for how long at most it is to be held. `last`: no call will follow.
    `gap_s`: the true length of the pause, which only an oracle has.
    """

    since_s: float
    own_blocks: int
    tools: tuple[ToolKey, ...] = ()
    eta_s: float | None = None
    ttl_s: float | None = None
    last: bool = False
    gap_s: float | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """Hold until `until_s`; at or before now means it is not held, but stays until its room is wanted.

    `rank`: seconds saved per second and block held, as it is now; the least gives way first. It falls and rises with
    the age of the pause: ask again when somebody has to give way. `pinned`: the rule means a promise, not a rank, so
    its KV counts as used until then (Continuum). `back`: the chance that the program is back by then.
    """

    until_s: float
    rank: float
    pinned: bool = False
    back: float = 1.0


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the rules learn from, all bounded; the driver feeds it."""

    durations: Durations = field(default_factory=Durations)
    turns: Turns = field(default_factory=Turns)


Rule = Callable[[Waiting, Learnt, Worth, float], Retention]
"""(who waits, what was learnt, what a hit is worth, now in seconds) -> how long to hold."""


def stock(waiting: Waiting, _learnt: Learnt, _worth: Worth, now_s: float) -> Retention:
    """vLLM as it comes: nothing is held; what was freed first goes first."""
    return Retention(min(waiting.since_s, now_s), 0.0)


def fixed(waiting: Waiting, learnt: Learnt, _worth: Worth, _now_s: float) -> Retention:
    """The released code of Continuum (vllm-continuum): two seconds if the tool's mean is at most that, else nothing.
    A tool never seen counts as instant."""
    means = [_mean(learnt.durations.ended_s(key.tool)) for key in waiting.tools]
    ttl_s = FIXED_S if max(means, default=0.0) <= FIXED_S and not waiting.last else 0.0
    return Retention(waiting.since_s + ttl_s, 0.0, pinned=True)


def paper(waiting: Waiting, learnt: Learnt, worth: Worth, _now_s: float) -> Retention:
    """Continuum (arXiv 2511.02230): eq. 2 over the tool's durations when there are more than 100, else over all
    durations, else ln B or 2 s, the longer; B = T eta + prefill (section 4). Several tools at once are one tool of that
    name."""
    if waiting.last:
        return Retention(waiting.since_s, 0.0, pinned=True)
    saved_s = worth.queueing_s * learnt.turns.eta() + worth.prefill_s
    name = "+".join(sorted({key.tool for key in waiting.tools})) or None
    for seen in (learnt.durations.ended_s(name), learnt.durations.ended_s()):
        if len(seen) > PAPER_ENOUGH:
            ttl_s = paper_ttl_s(survival((gap_s, True) for gap_s in seen), saved_s)
            return Retention(waiting.since_s + ttl_s, 0.0, pinned=True)
    return Retention(waiting.since_s + max(log(max(saved_s, 1.0)), COLD_S), 0.0, pinned=True)


def halo(waiting: Waiting, learnt: Learnt, worth: Worth, now_s: float) -> Retention:
    """Hold while the index of what is known of the pause is above 1 / break-even; rank = index * B / own blocks.

    The break-even pause is T* for a linear prefill (`worth.worth_of`), so without knowledge this is the T* rule.
    """
    if waiting.eta_s is not None:
        return _held(waiting, Expected(waiting.eta_s), worth, now_s)
    return _held(waiting, learnt.durations.forecast(waiting.tools, now_s), worth, now_s)


def blind(waiting: Waiting, _learnt: Learnt, worth: Worth, now_s: float) -> Retention:
    """`halo` that learns nothing and takes no hint: T* after the end of the last call."""
    return _held(waiting, Unknown(), worth, now_s)


def oracle(waiting: Waiting, _learnt: Learnt, worth: Worth, now_s: float) -> Retention:
    """`halo` that knows the true length of the pause: hold while what is left of it is below the break-even pause."""
    assert waiting.gap_s is not None
    return _held(waiting, Expected(waiting.gap_s), worth, now_s)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"stock": stock, "fixed": fixed, "paper": paper, "blind": blind, "halo": halo, "oracle": oracle}
)


def _held(waiting: Waiting, forecast: Forecast, worth: Worth, now_s: float) -> Retention:
    if waiting.last:
        return Retention(waiting.since_s, 0.0)
    age_s = max(now_s - waiting.since_s, 0.0)
    until_age_s = hold_until_age_s(forecast, age_s, worth.break_even_s)
    if waiting.ttl_s is not None:
        until_age_s = min(until_age_s, waiting.ttl_s)
    rank = index(forecast, age_s) * worth.saved_s / max(waiting.own_blocks, 1)
    return Retention(waiting.since_s + until_age_s, rank, back=returns(forecast, age_s, until_age_s))


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else 0.0
