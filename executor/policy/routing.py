"""Which engine takes a ready call."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from executor.engines.port import EngineSpec
from planner.ir.ids import EngineId

#: A plan is made of expected lengths and speeds: an engine that would be done in less than this part of the time of
#: those planned takes the call whatever its share is.
FAR_QUICKER = 0.5


@dataclass(frozen=True, slots=True)
class EngineView:
    """What is believed of an engine: what runs inside it, and how many seconds of work that is.

    `slowness` is how many times as long as predicted its calls have lasted lately. Of the places it has, so many are
    `for_others`, whose calls are not counted here. One that is `draining` answers those inside and takes no more.
    """

    spec: EngineSpec
    up: bool = True
    running: int = 0
    load_s: float = 0.0
    exclusive: bool = False  # a suspected call runs there and nothing may run beside it
    failures: int = 0  # in a row
    trips: int = 0  # times it was taken out since it last answered
    slowness: float = 1.0
    for_others: int = 0
    draining: bool = False

    @property
    def takes_calls(self) -> bool:
        return self.up and not self.draining


@dataclass(frozen=True, slots=True)
class Offer:
    """What one engine would do for one call: `warm_tokens` of its `prompt_tokens` are in the cache there, and the call
    takes `load_s` seconds of the engine's time, `prefill_s` of them until its prompt is read; `has_kv` tells whether
    its KV has room for the call now. `tier_tokens` more are loaded from a tier that other engines share, which is in
    both times. `joined_s` is what the call and those that it joins lose by it, where engines are compared by that."""

    view: EngineView
    load_s: float
    prompt_tokens: int
    warm_tokens: int = 0
    has_kv: bool = True
    prefill_s: float = 0.0
    tier_tokens: int = 0
    joined_s: float | None = None

    @property
    def done_s(self) -> float:
        """When the call would be done: the work before it, the prompt that is not warm, and the answer."""
        return (self.view.load_s + self.load_s) * self.view.slowness

    @property
    def cost_s(self) -> float:
        """What engines are compared by."""
        return self.done_s if self.joined_s is None else self.joined_s * self.view.slowness


@dataclass(frozen=True, slots=True)
class Choice:
    engine: EngineId
    load_s: float
    reason: str


def choose_engine(
    offers: Sequence[Offer],
    avoid: Sequence[EngineId] = (),
    *,
    suspect: bool = False,
    planned: Collection[EngineId] = (),
) -> Choice | None:
    """The engine with the earliest predicted completion that has room; `None` means not now.

    Where some of the `planned` have room, those that are not above their planned share of the stage, others take the
    call only if they are far quicker.

    `offers` are of the engines that answer and serve the model. Those to `avoid` are taken only where there are no
    others; a `suspect` call was in flight on engines that died, and must run alone. Ties go to the smaller id.
    """
    preferred = [offer for offer in offers if offer.view.spec.id not in avoid] or offers
    open_now = [offer for offer in preferred if offer.has_kv and has_room(offer.view, suspect=suspect)]
    if not open_now:
        return None
    allowed = _keeping_to(planned, open_now)
    best = min(allowed, key=lambda offer: (offer.done_s, offer.view.spec.id))
    kept = f"; {len(open_now) - len(allowed)} passed over, above their planned share" if planned else ""
    return Choice(best.view.spec.id, best.load_s, _reason(best, len(open_now)) + kept)


def has_room(view: EngineView, *, suspect: bool = False) -> bool:
    """Whether one more call may be inside; a suspect only alone."""
    if view.draining or view.exclusive or (suspect and view.running > 0):
        return False
    return view.running + view.for_others < view.spec.max_running


def _keeping_to(planned: Collection[EngineId], offers: Sequence[Offer]) -> Sequence[Offer]:
    """Those of `planned`, and who is far quicker; all where none of `planned` is there."""
    done_s = [offer.done_s for offer in offers if offer.view.spec.id in planned]
    if not done_s:
        return offers
    soon_s = FAR_QUICKER * min(done_s)
    return [offer for offer in offers if offer.view.spec.id in planned or offer.done_s < soon_s]


def _reason(offer: Offer, open_now: int) -> str:
    if not offer.warm_tokens:
        return f"least predicted load: {offer.done_s:.3f} s of {open_now} with room"
    return f"{offer.warm_tokens:,} of {offer.prompt_tokens:,} prompt tokens warm; predicted {offer.done_s:.2f} s"
