"""Which conversations of many turns may run: those whose KV fits beside what the running ones own and will grow to.

Working-set admission (Denning 1968 for pages; ThunderAgent, arXiv 2602.13692, for agents), with shared beginnings
counted once, outside of the engine: for engines that know of no programs. A conversation that was let in keeps its
room over its tools for as long as that pays (the retention rule of `halo_vllm`); when that is over, its next call asks
again, and as the earliest program it is asked first.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Generic, Protocol, TypeVar

from executor.core.fleet import Fleet, SentCall
from executor.core.working_set import WorkingSet
from executor.policy.routing import EngineView
from halo_vllm.policy.admission import Limits, Verdict, Why, admissions
from halo_vllm.policy.meters import Mean, QueueingMeter
from halo_vllm.policy.retention import Learnt, Waiting, halo
from halo_vllm.policy.tools import ToolKey
from halo_vllm.policy.worth import PrefillCost, worth_of
from planner.ir.ids import EngineId

#: What is believed of prompts errs, and blocks are not the engine's own: so much of the KV is given away.
FILL = 0.9
#: An engine stands idle so long for those who may be back, before one is let in that does not fit.
IDLE_S = 1.0
ADMISSION = Limits(fill=FILL, idle_s=IDLE_S)
#: Of those held, so many are asked about at once, the first ones, and always who has waited longest.
ASKED_ABOUT = 64
#: Clocks round: who asks to be woken is woken a little later than needed.
_LATER_S = 0.001

Order = tuple[int, ...]


class HeldCall(SentCall, Protocol):
    avoid: tuple[EngineId, ...]


CallT = TypeVar("CallT", bound=HeldCall)


@dataclass(slots=True, eq=False)
class Held(Generic[CallT]):
    """A call that waits for room. `order` is the place of its program and of itself in it: the least goes first."""

    call: CallT
    name: str
    order: Order
    since_s: float
    bypassed: int = 0
    why: Why | None = None


#: Given those held for engines of one pool, in the order of their programs.
InTurn = Callable[[Sequence[Held[CallT]]], Iterable[Held[CallT]]]


@dataclass(slots=True, eq=False)
class _Conversation(Generic[CallT]):
    name: str
    unsent: CallT | None = None  # let in, and waits for its turn
    engine: EngineId | None = None  # where it has room
    blocks: int = 0  # of its last prompt
    calls: int = 0
    ready_s: float = 0.0
    kept: bool = False  # it had room when its last call came
    note: str = ""


class WorkingSets(Generic[CallT]):
    """The written bound is that of `Limits`: nobody is held for ever, whatever those do that were let in."""

    def __init__(self, fleet: Fleet[CallT], limits: Limits | None = ADMISSION, in_turn: InTurn[CallT] = iter) -> None:
        """Without limits everybody is let in. `in_turn`: in which order those that are held are asked about, where it
        is not that of their programs; "before" and "after" in `Limits` are meant in that order."""
        self._fleet, self._limits, self._bounds = fleet, limits or ADMISSION, limits is not None
        self._in_turn = in_turn
        self._growth, self._queueing, self._learnt = Mean(), QueueingMeter(), Learnt()
        self.sets = {engine: WorkingSet(cache, self._ahead) for engine, cache in fleet.caches.items()}
        self._by_themselves: set[EngineId] = set()
        self._conversations: dict[str, _Conversation[CallT]] = {}
        self._lines: dict[str, list[Held[CallT]]] = {}
        self._newly_held: list[Held[CallT]] = []
        self._promised_more: set[EngineId] = set()

    def trust(self, engine: EngineId, *, itself: bool) -> None:
        """Whether the engine admits programs by `itself` (halo_vllm): then it is not done twice."""
        (self._by_themselves.add if itself else self._by_themselves.discard)(engine)

    def bounds(self, pool: str) -> bool:
        """Whether anybody can be held for want of room in the engines of the pool."""
        return any(self._bounded(engine) for engine in self._fleet.pools.engines.get(pool, ()))

    def bound_by(self, limits: Limits | None) -> None:
        """Other limits from now on; who is in stays in."""
        self._limits, self._bounds = limits or ADMISSION, limits is not None

    def shared_blocks(self, name: str, call: CallT) -> tuple[int, bool] | None:
        """Of what the conversation has, so many blocks the call begins with, and whether that is all; None where it has
        no room."""
        conversation = self._conversations.get(name)
        if conversation is None or conversation.engine is None:
            return None
        return self.sets[conversation.engine].shared_blocks(name, call)

    def asks(self, call: CallT, name: str, order: Order, now_s: float) -> bool:
        """The next call of the conversation is there: may it run? If not, it is held until `admitted` gives it."""
        conversation = self._of(name)
        self._learnt.durations.returned(name, now_s)
        if conversation.calls:
            self._growth.saw(max(0, len(call.prefix) - conversation.blocks))
            self._promised_more.update(self.sets)
        conversation.blocks, conversation.kept = len(call.prefix), conversation.engine is not None
        if conversation.engine is not None:
            self._join(conversation, call, conversation.engine, now_s)
            return True
        if call.suspect or not self._fleet.knows(call.pool):
            return True  # it runs alone, or nowhere
        insort(self._lines.setdefault(call.pool, []), Held(call, name, order, now_s), key=_order)
        return False

    def admitted(self, now_s: float) -> list[CallT]:
        """Of the calls that are held, those that may run from now on."""
        found: list[CallT] = []
        for pool, line in self._lines.items():
            if line:
                self._give_way(now_s)
            while line and (views := self._fleet.serving(pool)):
                admitted = self._round(line, views, now_s)
                if not admitted:
                    break
                found += [held.call for held in admitted]
        return found

    def held(self, pool: str) -> Sequence[Held[CallT]]:
        """In the order of their programs."""
        return self._lines.get(pool, ())

    @property
    def pools_held(self) -> list[str]:
        """The pools whose engines somebody waits for."""
        return [pool for pool, line in self._lines.items() if line]

    def newly_held(self) -> list[Held[CallT]]:
        """Those held since this was asked last, each with the reason; some may have been let in meanwhile."""
        newly, self._newly_held = self._newly_held, []
        return newly

    def promised(self, engine: EngineId) -> float:
        """What part of the engine's KV is promised to those that are there; none where the engine sees to that."""
        return 0.0 if engine in self._by_themselves else self.sets[engine].promised

    def wanted(self) -> set[EngineId]:
        """The engines in which somebody waits for room."""
        views = [view for pool in self.pools_held for view in self._fleet.serving(pool)]
        return {view.spec.id for view in views if self._bounded(view.spec.id)}

    def promised_more(self) -> list[EngineId]:
        """The engines of whose KV more may be promised than when this was asked last."""
        engines, self._promised_more = sorted(self._promised_more), set()
        return engines

    def wake_at_s(self, now_s: float) -> float | None:
        """When to ask again if nothing happens until then; None where only an event can change anything."""
        oldest_s = [min(held.since_s for held in line) for line in self._lines.values() if line]
        if not oldest_s:
            return None
        instants = [since_s + self._limits.patience_s for since_s in oldest_s]
        for engine, one in self.sets.items():
            idle_since_s = one.note_idle(self._running(engine), now_s)
            instants += [one.next_gone_s(), one.forced_at_s + self._limits.spacing_s]
            instants.append(idle_since_s + self._limits.idle_s)
        soon_s = min((at_s for at_s in instants if at_s > now_s), default=inf)
        return soon_s + _LATER_S if soon_s < inf else None

    def may_enter(self, name: str, call: CallT, engine: EngineId) -> bool:
        """A conversation runs where it has room, or where there is room for it and nobody waits for that."""
        conversation = self._conversations.get(name)
        if conversation is None or conversation.engine in (None, engine):
            return True
        return self.has_room_for(name, call, engine)

    def has_room_for(self, name: str, call: CallT, engine: EngineId) -> bool:
        """Whether it fits where it has no room, and nobody waits for that."""
        return not self._lines.get(call.pool) and self._fits(call, name, engine)

    def sent(self, name: str, call: CallT, engine: EngineId, now_s: float) -> str:
        """Its call goes to the engine. Returns what there is to say about how long it was held, and why."""
        conversation = self._of(name)
        if conversation.engine != engine:
            self._join(conversation, call, engine, now_s)
        self.sets[engine].sent(name, call)
        conversation.unsent = None
        self._queueing.admitted(now_s - conversation.ready_s, warm=conversation.kept and conversation.calls > 0)
        note, conversation.note = conversation.note, ""
        return note

    def answered(self, name: str, call: CallT, tools: Sequence[ToolKey], now_s: float) -> float | None:
        """The call is done, and a tool runs. Until when its room is kept; None where it is let go at once."""
        conversation = self._of(name)
        engine = conversation.engine
        conversation.calls += 1
        self._learnt.durations.began(name, tools, now_s)
        if engine is None:
            return None
        self.sets[engine].out(name)
        member = self.sets[engine].members[name]
        member.hold_until_s = self._hold_until_s(conversation, call, engine, tools, now_s)
        return member.hold_until_s

    def failed(self, name: str, *, elsewhere: bool) -> None:
        """Its call failed, and will be tried again."""
        conversation = self._conversations.get(name)
        if elsewhere:
            self._let_go(name)
        elif conversation is not None and conversation.engine is not None:
            self.sets[conversation.engine].out(name)

    def leave(self, name: str, now_s: float) -> None:
        """No call of the conversation will come, or none that anybody waits for."""
        if self._conversations.get(name) is None:
            return
        self._let_go(name)
        self.withdraw(name)
        self._learnt.durations.lost(name, now_s)
        del self._conversations[name]

    def withdraw(self, name: str) -> None:
        """Its call is held no longer."""
        for line in self._lines.values():
            line[:] = [held for held in line if held.name != name]

    def pass_on(self, name: str, heir: str, call: CallT, now_s: float) -> None:
        """The call that is inside is another conversation's from now on."""
        conversation = self._conversations.get(name)
        if conversation is None or conversation.engine is None or name == heir:
            return
        engine = conversation.engine
        self._let_go(name)
        self._join(self._of(heir), call, engine, now_s)
        self.sets[engine].sent(heir, call)

    def lost(self, engine: EngineId) -> list[CallT]:
        """The engine's KV is gone. Returns the calls that may run but were not sent yet: they have to ask anew."""
        homeless = [self._conversations[name] for name in self.sets[engine].members]
        for conversation in homeless:
            self._let_go(conversation.name)
        return [one.unsent for one in homeless if one.unsent is not None]

    # --- who is let in

    def _round(self, line: list[Held[CallT]], views: Sequence[EngineView], now_s: float) -> list[Held[CallT]]:
        """Ask once about each that waits, on the engine that is best for it."""
        wishes: dict[EngineId, list[Held[CallT]]] = {}
        for held in _asked_about(line, self._in_turn(line)):
            wishes.setdefault(self._best(held, views), []).append(held)
        admitted: list[Held[CallT]] = []
        for engine, wishing in wishes.items():
            for held, verdict in zip(wishing, self._verdicts(engine, wishing, now_s), strict=True):
                held.bypassed = verdict.bypassed
                if verdict.admitted:
                    self._let_in(held, engine, verdict.why, now_s)
                    admitted.append(held)
                else:
                    self._note_held(held, verdict.why)
        line[:] = [held for held in line if held not in admitted] if admitted else line
        return admitted

    def _note_held(self, held: Held[CallT], why: Why) -> None:
        if held.why is None:
            self._newly_held.append(held)
        held.why = why

    def _best(self, held: Held[CallT], views: Sequence[EngineView]) -> EngineId:
        """Where the call would be done first, of the engines that have room for the conversation."""
        if len(views) == 1:
            return views[0].spec.id
        call = held.call
        offers = self._fleet.offers(call, views)
        ranked = []
        for offer in offers:
            engine = offer.view.spec.id
            ranked.append((engine in call.avoid, not self._fits(call, held.name, engine), offer.done_s, engine))
        return min(ranked)[-1]

    def _verdicts(self, engine: EngineId, wishing: Sequence[Held[CallT]], now_s: float) -> Sequence[Verdict]:
        here = self.sets[engine]
        if not self._bounded(engine):
            return [Verdict(held.name, Why.FITS, held.bypassed) for held in wishing]
        here.note_idle(self._running(engine), now_s)
        candidates = [
            here.candidate(held.name, held.call, place, now_s - held.since_s, held.bypassed)
            for place, held in enumerate(wishing)
        ]
        return admissions(candidates, here.room(now_s), self._limits)

    def _fits(self, call: CallT, name: str, engine: EngineId) -> bool:
        if not self._bounded(engine):
            return True
        here = self.sets[engine]
        room, wanted = here.room(0.0), here.candidate(name, call, 0, 0.0, 0)
        taken = room.owned_blocks + room.growth_blocks + wanted.need_blocks + wanted.growth_blocks
        return taken <= room.capacity_blocks * self._limits.fill

    def _bounded(self, engine: EngineId) -> bool:
        return self._bounds and engine not in self._by_themselves and self.sets[engine].bounded

    def _running(self, engine: EngineId) -> int:
        """Others' calls keep it busy, too, and those they wait to send."""
        view = self._fleet.views[engine]
        return view.running + view.for_others

    def _let_in(self, held: Held[CallT], engine: EngineId, why: Why, now_s: float) -> None:
        conversation = self._conversations[held.name]
        self._join(conversation, held.call, engine, now_s)
        if why is Why.AGED:
            self.sets[engine].forced_at_s = now_s
        if held.why is not None or why is not Why.FITS:
            reason = "" if held.why is None else f": {held.why.value}"
            conversation.note = f"; held {now_s - held.since_s:.1f} s{reason}; let in: {why.value}"

    def _join(self, conversation: _Conversation[CallT], call: CallT, engine: EngineId, now_s: float) -> None:
        if conversation.engine != engine:
            self._let_go(conversation.name)
        conversation.engine, conversation.ready_s, conversation.unsent = engine, now_s, call
        self._promised_more.add(engine)
        self.sets[engine].join(conversation.name, call)

    # --- who gives way

    def _give_way(self, now_s: float) -> None:
        """Somebody wants the room of those for which holding does not pay any longer."""
        for one in self.sets.values():
            for name in one.gone(now_s):
                self._let_go(name)

    def _of(self, name: str) -> _Conversation[CallT]:
        if name not in self._conversations:
            self._conversations[name] = _Conversation(name)
        return self._conversations[name]

    def _let_go(self, name: str) -> None:
        conversation = self._conversations.get(name)
        if conversation is not None and conversation.engine is not None:
            self.sets[conversation.engine].leave(name)
            conversation.engine = None

    def _hold_until_s(
        self, conversation: _Conversation[CallT], call: CallT, engine: EngineId, tools: Sequence[ToolKey], now_s: float
    ) -> float:
        cache = self._fleet.caches[engine]
        block_tokens = cache.kv_tokens / max(1, cache.room_blocks)
        own = self.sets[engine].alone_blocks(conversation.name)
        context_tokens = round((call.prompt_tokens + call.output_tokens) * cache.scale)
        cost = PrefillCost(self._fleet.reading_s(engine, call.model, 1))
        miss_s = self._queueing.miss_s()
        worth = worth_of(cache.kv_tokens, cost, context_tokens, round(own * block_tokens), miss_s)
        return halo(Waiting(now_s, own, tuple(tools)), self._learnt, worth, now_s).until_s

    def _ahead(self) -> float:
        return self._growth.value(0.0)


def _order(held: Held[CallT]) -> Order:
    return held.order


def _asked_about(line: Sequence[Held[CallT]], in_turn: Iterable[Held[CallT]]) -> list[Held[CallT]]:
    asked = list(islice(in_turn, ASKED_ABOUT))
    if len(line) > len(asked):
        oldest = min(line, key=lambda held: held.since_s)
        asked += [] if oldest in asked else [oldest]
    return asked
