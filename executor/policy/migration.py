"""Whether a program's next turn leaves the engine that has its KV, where another can load that from a shared tier.

Every offer already says when the turn would be done there: the work before it, what is loaded or read, the answer. The
least of these, as Mooncake's conductor takes it (FAST 2025, Algorithm 1), would move programs to and fro over
differences that are within the error of estimates; each move loads a context, and takes room from others. So a move has
to gain what it costs once more, which is what coming back would take: as long as loads are what they were, nobody does.
"""

from collections.abc import Mapping, Sequence

from executor.policy.routing import Offer
from planner.ir.ids import EngineId

#: Estimates are not better than this part of the time until the turn would be done at home.
WITHIN_ERROR = 0.05


def unless_it_stays(offers: Sequence[Offer]) -> Sequence[Offer]:
    """Of engines whose KV has room now, those that the call may go to: where its KV is, or where a move is worth it."""
    if not any(offer.tier_tokens for offer in offers):
        return offers
    fitting = [offer for offer in offers if offer.has_kv]
    return worth_leaving_for(fitting, {offer.view.spec.id: offer.done_s for offer in fitting})


def worth_leaving_for(offers: Sequence[Offer], done_s: Mapping[EngineId, float]) -> Sequence[Offer]:
    """The offer of the engine that has most of the prompt warm, and those that are worth a move; all where none would
    load from a tier. `done_s` says when the call would be done on each. Leave out who has no room now: where that is
    the engine with its KV, the call goes where it would be done first.
    """
    if len(offers) < 2 or not any(offer.tier_tokens for offer in offers):
        return offers
    home = max(offers, key=lambda offer: (offer.warm_tokens, -done_s[offer.view.spec.id]))
    stays_s = done_s[home.view.spec.id]
    return [
        offer
        for offer in offers
        if offer is home or done_s[offer.view.spec.id] + _least_gain_s(home, offer, stays_s) <= stays_s
    ]


def _least_gain_s(home: Offer, offer: Offer, stays_s: float) -> float:
    """What the move costs, which is paid in `done_s` already, once more."""
    costs_s = (offer.load_s - home.load_s) * offer.view.slowness
    return max(costs_s, WITHIN_ERROR * stays_s)
