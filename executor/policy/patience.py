"""Go to an engine now, or wait for a better one: where a program's KV is, its next turn is done sooner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from executor.policy.migration import worth_leaving_for
from executor.policy.routing import Choice, Offer, has_room
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True)
class Wait:
    """The engine has no room, and is still the one that would be done first."""

    engine: EngineId
    load_s: float


def go_or_wait(
    offers: Sequence[Offer],
    waiting_s: Mapping[EngineId, float],
    avoid: Sequence[EngineId] = (),
    *,
    suspect: bool = False,
) -> Choice | Wait:
    """The engine with the earliest predicted completion, with room or without.

    `waiting_s` has the engines that calls of earlier programs wait for, with the seconds of work those are: no later
    call takes their room. Engines to `avoid` are taken only where there are no others. Ties go to the smaller id.
    """
    assert offers, "no engine to choose from"
    preferred = [offer for offer in offers if offer.view.spec.id not in avoid] or offers
    done_s = {offer.view.spec.id: _done_s(offer, waiting_s) for offer in preferred}
    worth = preferred if avoid else worth_leaving_for(preferred, done_s)
    best = min(worth, key=lambda offer: (done_s[offer.view.spec.id], offer.view.spec.id))
    engine = best.view.spec.id
    if engine in waiting_s or not best.has_kv or not has_room(best.view, suspect=suspect):
        return Wait(engine, best.load_s)
    return Choice(engine, best.load_s, _reason(best, len(preferred)))


def _done_s(offer: Offer, waiting_s: Mapping[EngineId, float]) -> float:
    return offer.done_s + waiting_s.get(offer.view.spec.id, 0.0) * offer.view.slowness


def _reason(offer: Offer, choices: int) -> str:
    warm = f"{offer.warm_tokens:,} of {offer.prompt_tokens:,} prompt tokens warm" if offer.warm_tokens else "none warm"
    warm += f", {offer.tier_tokens:,} from the tier" if offer.tier_tokens else ""
    return f"{warm}; done in {offer.done_s:.2f} s, first of {choices}"
