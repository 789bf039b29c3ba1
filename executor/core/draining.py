"""Engines that an operator takes out: what runs inside ends there, and whoever waits for one goes elsewhere."""

from executor.core.binding import rebind
from executor.core.life import Life
from executor.core.progress import enqueue
from executor.core.state import State
from planner.ir.ids import EngineId


def drain(state: State, engine: EngineId) -> None:
    """Programs whose KV is there have their next turn elsewhere, which loads it from a tier where the two share one."""
    if state.fleet.views[engine].draining:
        return
    state.fleet.drain(engine, draining=True)
    leave_line_of(state, engine)


def resume(state: State, engine: EngineId) -> None:
    state.fleet.drain(engine, draining=False)
    nobody_strands(state, engine)


def leave_line_of(state: State, engine: EngineId) -> None:
    """Calls that were to go to the engine, and conversations that had room there, ask anew."""
    rebind(state, engine)
    for work in state.sets.lost(engine):
        work.become(Life.HELD)
        work.queued += 1
        enqueue(state, work)


def nobody_strands(state: State, engine: EngineId) -> None:
    """Those that waited for an engine of its pools wait for it no longer in vain."""
    for pool in state.fleet.pools_of(engine):
        state.stranded.pop(pool, None)
