"""Calls whose engine a rule chooses (`executor.policy.rules`): they wait in its order, for any engine or for the one
that they were bound to, and are sent while there is room."""

from collections.abc import Sequence

from executor.core.late_binding import LOOK_AHEAD, send_open
from executor.core.lines import Given, Line, Lines, SomeLines, Waiting
from executor.core.sending import send
from executor.core.state import State
from executor.core.work import Work
from executor.policy.asking import Asking, Seat
from executor.policy.routing import Choice, EngineView, Offer, has_room
from executor.slo import SloClass
from planner.ir.ids import EngineId
from planner.ir.plan import Agent, Generate


def goes_by_rule(state: State, work: Work) -> bool:
    """Whether the rule chooses the call's engine. Calls that failed before cannot go to every engine: they go ahead of
    all, as ever."""
    if work.avoid or work.suspect:
        return False
    urgent = work.program.deadline_s is not None or work.program.slo is SloClass.INTERACTIVE
    return urgent or not state.rule.groups_prefixes


def line_up(state: State, work: Work) -> None:
    """The call waits for its engine from now on."""
    waiting = Waiting(work, _asking(state, work), work.queued)
    lines = state.lines_of(work.pool)
    state.market_of(work.pool).asks()
    views = _may_take(state, work, state.fleet.serving(work.pool))
    if state.rule.bind is None or not views:
        lines.push(state.rule.order(waiting.asking, None), waiting)
    else:
        _bind(state, lines, waiting, views)


def rebind(state: State, engine: EngineId) -> None:
    """The engine is gone: who waited for it goes elsewhere."""
    for lines in state.lines.values():
        line = lines.bound.pop(engine, None)
        for waiting in line.first(len(line)) if line else ():
            line_up(state, waiting.work)


def dispatch_by_rule(state: State, pool: str, lines: Lines, line: Line | SomeLines) -> None:
    """Send calls of `line`: those of `lines` that wait for any engine, or some of them. A rule that binds calls knows
    no tenants."""
    if state.rule.bind is None:
        send_open(state, pool, lines, line)
        return
    for waiting in line.first(LOOK_AHEAD):  # no engine answered when they came
        if views := _may_take(state, waiting.work, state.fleet.serving(pool)):
            line.remove(waiting)
            _bind(state, lines, waiting, views)
    for engine, bound in lines.bound.items():
        _send_bound(state, engine, bound)


def _bind(state: State, lines: Lines, waiting: Waiting, views: Sequence[EngineView]) -> None:
    assert state.rule.bind is not None
    seats = [_seat(state, lines, waiting.work, offer) for offer in _offers(state, waiting.work, views)]
    engine = state.rule.bind(waiting.asking, seats)
    seat = next(seat for seat in seats if seat.engine == engine)
    given = state.given.setdefault(engine, Given())
    given.calls += 1
    given.stage_s += seat.stage_s
    waiting.load_s = seat.offer.load_s
    lines.bind(engine, state.rule.order(waiting.asking, seat), waiting)


def _send_bound(state: State, engine: EngineId, line: Line) -> None:
    while (view := state.fleet.views[engine]).up and has_room(view) and (found := line.first(1)):
        (offer,) = _offers(state, found[0].work, [view])
        if not offer.has_kv:
            return
        line.remove(found[0])
        reason = f"{state.rule.name}: bound when it was ready; {len(line)} wait for the engine"
        send(state, found[0].work, Choice(engine, offer.load_s, reason), [offer])


def _may_take(state: State, work: Work, views: Sequence[EngineView]) -> list[EngineView]:
    return [view for view in views if state.may_enter(work, view.spec.id)]


def _offers(state: State, work: Work, views: Sequence[EngineView]) -> list[Offer]:
    return state.fleet.shares(work, views, state.expect(work), state.rule.inside_share)


def _seat(state: State, lines: Lines, work: Work, offer: Offer) -> Seat:
    assert isinstance(work.stage, Generate | Agent)
    engine = offer.view.spec.id
    line, given = lines.of(engine), state.given.get(engine, Given())
    mean = state.stages.mean(work.stage, work.prompt_tokens, work.output_tokens)
    stage_s = state.fleet.alone_s(engine, work.model, mean)
    return Seat(offer, stage_s, len(line), line.load_s, given.calls, given.stage_s)


def _asking(state: State, work: Work) -> Asking:
    program, stage = work.program, work.stage
    assert isinstance(stage, Generate | Agent)
    return Asking(
        program.order,
        program.slo,
        program.arrived_s,
        state.now,
        program.deadline_s,
        program.engine,
        state.remaining.whole_s(program),
        state.remaining.left_s(work),
        state.remaining.call_s(stage),
    )
