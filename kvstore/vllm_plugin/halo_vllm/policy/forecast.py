"""When a waiting program comes back, and how long to hold for it."""

from bisect import bisect_right
from dataclasses import dataclass

from halo_vllm.policy.survival import SHORTEST_HOLD_S, Survival


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known: it is expected to last as long again as it has lasted."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A pause said to last `pause_s`; once overdue, it is expected to last as long again as it is overdue."""

    pause_s: float


Forecast = Survival | Expected | Unknown


def index(forecast: Forecast, age_s: float) -> float:
    """Returns per second of holding, of a pause that has lasted `age_s` seconds and not ended.

    Hold if and only if it is greater than 1 / break-even pause: Continuum's rule (arXiv 2511.02230, eq. 1) with the
    seconds held in place of the whole TTL, asked at every age anew.
    """
    match forecast:
        case Survival():
            return forecast.index(age_s)
        case Expected(pause_s):
            return 1.0 / max(abs(pause_s - age_s), SHORTEST_HOLD_S)
        case Unknown():
            return 1.0 / max(age_s, SHORTEST_HOLD_S)


def returns(forecast: Forecast, age_s: float, until_age_s: float) -> float:
    """The chance that a pause which has lasted `age_s` ends by `until_age_s`; 1 where nothing is known of it."""
    if not isinstance(forecast, Survival):
        return 1.0
    before, left = forecast.returned_by(age_s), 1.0 - forecast.returned_by(age_s)
    return max(forecast.returned_by(until_age_s) - before, 0.0) / left if left > 0.0 else 0.0


def hold_until_age_s(forecast: Forecast, age_s: float, break_even_s: float) -> float:
    """The age at which a pause that has lasted `age_s` is held no longer; `age_s` if it is not held at all.

    Without knowledge that is the break-even pause: at worst twice the cost of knowing all (ski rental; Karlin et al.
    1988).
    """
    match forecast:
        case Survival():
            return best_ttl_s(forecast, break_even_s, age_s)
        case Expected(pause_s):
            return pause_s + break_even_s if abs(pause_s - age_s) < break_even_s else age_s
        case Unknown():
            return max(break_even_s, age_s)


def best_ttl_s(pauses: Survival, break_even_s: float, age_s: float = 0.0) -> float:
    """The age t that makes break_even * P(back by t) - E[min(pause, t)] greatest, of a pause that has lasted `age_s`:
    eq. 1 of Continuum (arXiv 2511.02230) with what holding really costs. `age_s` where nothing is worth it."""
    at, end = bisect_right(pauses.times_s, age_s), len(pauses.times_s)
    if at == end:
        return age_s

    def gain(low: tuple[float, float], high: int) -> float:
        return break_even_s * (pauses.returned[high] - low[0]) - (pauses.held_s[high] - low[1])

    while (further := pauses.onward[at]) < end and gain((pauses.returned[at], pauses.held_s[at]), further) > 0.0:
        at = further
    now = (pauses.returned_by(age_s), pauses.held_until(age_s))
    return pauses.times_s[at] if gain(now, at) > 0.0 else age_s


def paper_ttl_s(pauses: Survival, saved_s: float) -> float:
    """The age t that makes saved * P(back by t) - t greatest (Continuum, arXiv 2511.02230, eq. 2); 0 if none pays."""
    best_s, most = 0.0, 0.0
    for time, returned in zip(pauses.times_s, pauses.returned, strict=True):
        if saved_s * returned - time > most:
            best_s, most = time, saved_s * returned - time
    return best_s
