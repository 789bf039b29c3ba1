"""Why a call went to its engine: the engines that were considered, in predicted seconds, as values and as the text that
is kept of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

from executor.commands import Dispatch
from executor.policy.routing import Offer, has_room
from planner.ir.ids import EngineId

#: Of a large fleet the engines that would have been done first are told, the others are counted.
MOST_TOLD = 8
_DIGITS = 4
_LONGEST_FAILURE = 300


@dataclass(frozen=True, slots=True)
class Considered:
    """What one engine would have done for the call: the work that was before it, its prompt where that was not warm,
    and its answer, in seconds as corrected by how long calls really take there. `room` tells whether it could have
    begun at once."""

    engine: EngineId
    queue_s: float
    prefill_s: float
    decode_s: float
    prompt_tokens: int
    warm_tokens: int
    running: int
    room: bool

    @property
    def done_s(self) -> float:
        return self.queue_s + self.prefill_s + self.decode_s


@dataclass(frozen=True, slots=True)
class Decision:
    """A call was sent to `engine` after it had waited `waited_s` since its prompt was known.

    `engines` were considered; of them `considered` has those that would be done first, and the one that was taken.
    `after` says how the attempt before this one ended, where there was one.
    """

    engine: EngineId
    reason: str
    waited_s: float
    engines: int
    considered: tuple[Considered, ...]
    after: str = ""


def decision_of(command: Dispatch, waited_s: float) -> Decision:
    offers, failure = command.offers, command.after
    after = "" if failure is None else f"{failure.code}: {failure.message}"[:_LONGEST_FAILURE]
    told = tuple(_considered(offer) for offer in _best(offers, command.engine))
    return Decision(command.engine, command.reason, waited_s, len(offers), told, after)


def encode_decision(decision: Decision) -> str:
    """As it is kept in the store. Seconds are rounded to tenths of a millisecond."""
    told: dict[str, object] = {
        "engine": decision.engine,
        "reason": decision.reason,
        "waited_s": round(decision.waited_s, _DIGITS),
        "engines": decision.engines,
        "considered": [_row(one) for one in decision.considered],
    }
    if decision.after:
        told["after"] = decision.after
    return _encode(told)


def decode_decision(text: str) -> Decision:
    told = json.loads(text)
    considered = tuple(Considered(*row) for row in told.pop("considered"))
    return Decision(**told, considered=considered)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _best(offers: Sequence[Offer], taken: EngineId) -> Sequence[Offer]:
    if len(offers) > MOST_TOLD:
        best = nsmallest(MOST_TOLD, offers, key=_done_first)
        if all(offer.view.spec.id != taken for offer in best):
            best[-1] = next(offer for offer in offers if offer.view.spec.id == taken)
        return best
    return sorted(offers, key=_done_first) if len(offers) > 1 else offers


def _done_first(offer: Offer) -> tuple[float, EngineId]:
    return offer.done_s, offer.view.spec.id


def _considered(offer: Offer) -> Considered:
    view = offer.view
    return Considered(
        view.spec.id,
        view.load_s * view.slowness,
        offer.prefill_s * view.slowness,
        (offer.load_s - offer.prefill_s) * view.slowness,
        offer.prompt_tokens,
        offer.warm_tokens,
        view.running,
        offer.has_kv and has_room(view),
    )


def _row(one: Considered) -> tuple[object, ...]:
    """In the order of the fields."""
    return (
        one.engine,
        round(one.queue_s, _DIGITS),
        round(one.prefill_s, _DIGITS),
        round(one.decode_s, _DIGITS),
        one.prompt_tokens,
        one.warm_tokens,
        one.running,
        one.room,
    )
