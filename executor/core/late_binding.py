"""Late binding: calls that wait for any engine go to engines that have room, as far as those are worth their while.

In the order of the line, a call goes to an engine where it is nearly cheapest (`executor.policy.dearness`), of those to
the one that it joins at the least cost (`executor.core.joining`). Seconds in which its program waits in any case, for
calls beside it, cost nothing: such a call leaves the quick engines to others. Where it is cheap but its KV has no room,
the engine takes nobody later: it would wait for ever for so much room at once. An engine that has room and is cheap for
nobody takes what is least dear there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf

from executor.core.joining import joining
from executor.core.lines import Line, Lines, SomeLines, Waiting
from executor.core.sending import send
from executor.core.sending_back import inside, send_back
from executor.core.state import State
from executor.core.work import Work
from executor.policy.dearness import dearness
from executor.policy.giving_way import slower, who_gives_way
from executor.policy.routing import Choice, EngineView, Offer, has_room
from executor.policy.sampling import MANY, looked_at
from executor.slo import SloClass
from planner.ir.ids import EngineId
from planner.ir.plan import Agent, Generate

#: Among how many calls, the first in the rule's order, an engine finds the next one.
LOOK_AHEAD = 256
#: So many calls at most give way to one.
MOST_FOR_ONE = 4
#: Among so many parts of a program, those are looked for that a call runs beside.
MOST_BESIDE = 64


def send_open(state: State, pool: str, lines: Lines, line: Line | SomeLines) -> None:
    """Send calls of `line`, which is of those of `lines` that wait for any engine."""
    views = state.fleet.serving(pool)
    if not views or not any(True for _ in line.first(1)):
        return
    open_now, waiting = [view.spec.id for view in views if has_room(view)], lines.waiting / len(views)
    look = _Look(state, pool, line, open_now, slower(_slowness(views)), waiting)
    for one in line.first(LOOK_AHEAD):
        if look.open or one.asking.slo is SloClass.INTERACTIVE:
            look.offer(one)
    look.make_room()
    if state.rule.margin is not None:
        look.take_dear(state.rule.margin.at(lines.waiting / len(views)))


def _slowness(views: Sequence[EngineView]) -> dict[EngineId, float]:
    return {view.spec.id: view.slowness for view in views}


@dataclass(slots=True)
class _Look:
    """One look along the line. `open` engines have places, and keep them for nobody; `slow` has all that answer, for
    each of which so many calls are `waiting`. `urgent` calls may have others give way where they had better run; `dear`
    are calls for engines where they are not cheap."""

    state: State
    pool: str
    line: Line | SomeLines
    open: list[EngineId]
    slow: dict[EngineId, float]
    waiting: float
    urgent: list[tuple[Waiting, list[EngineId]]] = field(default_factory=list)
    dear: list[tuple[float, float, int, EngineId, Waiting]] = field(default_factory=list)

    def offer(self, one: Waiting) -> None:
        """Send the call, or let the engines that keep their room for it pass."""
        costs = self._dearness(one)
        engines = [engine for engine in self.open if engine in costs and self._may_enter(one.work, engine)]
        cheap = [engine for engine in engines if costs[engine] <= self._cheap]
        fitting = [engine for engine in cheap if self._fits(one, engine)]
        if fitting:
            kept = self.state.quiet[self.pool].kept_to(one.work.program.account, fitting)
            self._send(one, kept, f"the best of {len(kept)} with room")
            return
        for engine in cheap:
            self.open.remove(engine)
        dear = [engine for engine in engines if engine not in cheap]
        self.dear += [(costs[engine], one.key, one.number, engine, one) for engine in dear]
        if one.asking.slo is SloClass.INTERACTIVE and self.state.rule.sends_back:
            good = [engine for engine, cost in costs.items() if cost <= self._cheap]
            self.urgent.append((one, [engine for engine in good if self.state.may_enter(one.work, engine)]))

    def make_room(self) -> None:
        """Calls of batches give way to those that somebody waits for, where these had better run."""
        for one, engines in self.urgent:
            for _ in range(MOST_FOR_ONE):
                works = [work for engine in engines for work in self.state.fleet.inside[engine]]
                index = who_gives_way(one.asking.slo, [inside(work) for work in works], engines)
                if index is None or not one.waits:
                    break
                engine = works[index].engine
                assert engine is not None
                send_back(self.state, works[index])
                if has_room(self.state.fleet.views[engine]) and self._fits(one, engine):
                    self._send(one, [engine], "a call of a batch gave way")

    def take_dear(self, margin: float) -> None:
        """Each engine that is left with room takes one call, the least dear of all; others follow when it ends."""
        taken: set[EngineId] = set()
        for cost, _, _, engine, one in sorted(self.dear, key=lambda entry: entry[:4]):
            if cost > 1 + margin or not any(True for _ in self.line.first(1)):
                return
            if one.waits and engine not in taken and engine in self.open and self._fits(one, engine):
                taken.add(engine)
                self._send(one, [engine], f"{cost - 1:.0%} dearer than at best, and nothing cheaper waits for it")

    def _may_enter(self, work: Work, engine: EngineId) -> bool:
        return self.state.is_open(work, engine) and self.state.may_enter(work, engine)

    @property
    def _cheap(self) -> float:
        margin = self.state.rule.margin
        return inf if margin is None else 1 + margin.of_cheap(self.waiting)

    def _dearness(self, one: Waiting) -> dict[EngineId, float]:
        """On the engines that are looked at for the call: of many, some that have places, and one of each kind."""
        fleet, answer, market = self.state.fleet, self.state.expect(one.work), self.state.market_of(self.pool)
        prices, engines = market.prices(), list(self.slow)
        if len(engines) > MANY:
            home = one.asking.home
            always = [home] if home is not None and home in self.slow else []
            engines = list(dict.fromkeys([*looked_at(self.open, str(one.work.ref)), *always, *market.one_of_each_kind]))
        assert isinstance(one.work.stage, Generate | Agent)
        one.looked_at = list(fleet.long_enough(one.work, one.work.stage.sampling.max_tokens, engines))
        load_s = {engine: fleet.load_s(one.work, engine, answer, one.known) for engine in one.looked_at}
        return dearness(load_s, prices, self.slow)

    def _fits(self, one: Waiting, engine: EngineId) -> bool:
        cache, work = self.state.fleet.caches[engine], one.work
        if cache.comes_warm(work.prefix):
            return False
        inside = ((call, self._written(call)) for call in self.state.fleet.inside[engine])
        share = self.state.quiet[self.pool].kv_share(work.program.account, self.pool, engine)
        return cache.fits_over_time(work, share * self.state.rule.inside_share, inside)

    def _written(self, call: Work) -> float:
        """The share of a call's answer that is written, if it takes as long as calls of its stage do."""
        assert isinstance(call.stage, Generate | Agent)
        took_s = self.state.remaining.call_s(call.stage)
        return min(1.0, (self.state.now - call.sent_at) / took_s) if took_s > 0 else 0.0

    def _send(self, one: Waiting, engines: Sequence[EngineId], why: str) -> None:
        state, work = self.state, one.work
        views = [state.fleet.views[engine] for engine in one.looked_at]
        found = self._offers(one, views)
        offers = [replace(offer, has_kv=offer.has_kv or offer.view.spec.id in engines) for offer in found]
        best = min(
            (offer for offer in offers if offer.view.spec.id in engines),
            key=lambda offer: (offer.cost_s, offer.view.spec.id),
        )
        load_s = state.fleet.load_s(work, best.view.spec.id, state.expect(work), one.known)
        self.line.remove(one)
        work.program_ends_s = state.now + best.done_s + _behind_s(one)
        reason = f"{state.rule.name}: predicted {best.done_s:.2f} s; {why}"
        send(state, work, Choice(best.view.spec.id, load_s, reason), offers)
        if best.view.spec.id in self.open and not has_room(state.fleet.views[best.view.spec.id]):
            self.open.remove(best.view.spec.id)

    def _offers(self, one: Waiting, views: Sequence[EngineView]) -> list[Offer]:
        state, work = self.state, one.work
        answer = state.expect(work)
        offers = state.fleet.shares(work, views, answer, state.rule.inside_share)
        if state.rule.margin is None:
            return offers
        waits_s = _program_ends_s(work) - _behind_s(one) - state.now
        return [joining(state.fleet, work, offer, answer, waits_s) for offer in offers]


def _behind_s(one: Waiting) -> float:
    """What comes after the call on its program's path."""
    return one.asking.left_s - one.asking.own_s


def _program_ends_s(work: Work) -> float:
    """When the program should be done for those of its other calls that are in engines."""
    beside = islice(work.program.live.values(), MOST_BESIDE)
    return max((one.program_ends_s for one in beside if one is not work and one.engine is not None), default=0.0)
