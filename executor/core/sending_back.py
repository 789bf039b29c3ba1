"""Calls that leave an engine unanswered and wait for one again. Nothing is held against them."""

from executor.commands import Abort
from executor.core.charging import call_failed
from executor.core.life import Life
from executor.core.state import State
from executor.core.work import Work
from executor.policy.giving_way import MOST_SENT_BACK, Inside, slower
from executor.policy.routing import has_room
from planner.ir.ids import EngineId


def send_back(state: State, work: Work) -> None:
    """The call is in line again before this event is over."""
    state.tell(Abort(work.ref, work.attempt))
    call_failed(state, work)
    state.fleet.leave(work)
    work.attempt += 1
    work.sent_back += 1
    work.become(Life.HELD)
    state.sent_back.append(work)


def inside(work: Work) -> Inside:
    assert work.engine is not None
    may_leave = work.conversation is None and not work.suspect
    return Inside(work.engine, work.program.slo, work.sent_at, work.sent_back, may_leave)


def leave_slow(state: State, engine: EngineId, pool: str) -> None:
    """Calls that were sent to an engine that turned out to be slow, and have not begun there, go elsewhere while
    another engine has room."""
    if not state.rule.sends_back or not state.fleet.is_slow(engine, pool):
        return
    views = state.fleet.serving(pool)
    slow = slower({view.spec.id: view.slowness for view in views})
    if not any(has_room(view) for view in views if slow[view.spec.id] == 1.0):
        return
    for work in state.fleet.not_begun(engine):
        if work.pool == pool and inside(work).may_leave and work.sent_back < MOST_SENT_BACK:
            send_back(state, work)
