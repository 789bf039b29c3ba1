"""What must hold between any two events."""

from executor.core.life import Life
from executor.core.state import State
from executor.core.work import Role, Work


def check_state(state: State) -> None:
    """Raises `AssertionError`, naming what is wrong."""
    assert not state.agenda, "something possible was left undone"
    assert not state.broken, "a failure was left untreated"
    works = [work for program in state.programs.values() for work in program.live.values()]
    for work in works:
        _check_work(state, work)
    _check_engines(state, works)
    _check_tools(state, works)
    for program in state.programs.values():
        assert program.live, f"{program.id} runs, but nothing of it does"
        assert not program.ended


def _check_work(state: State, work: Work) -> None:
    assert work.life not in (None, Life.DONE, Life.FAILED, Life.DROPPED), f"{work.ref} is {work.life} but live"
    assert (work.life is Life.WAITING) == (work.waits_for is not None), f"{work.ref} waits for nobody"
    for key in work.keys:
        entry = state.shared.get(key)
        assert entry is not None, f"{work.ref} owns a key that is unknown"
        assert entry.owner is work, f"{work.ref} owns a key that is another's"
    if work.waits_for is not None:
        entry = state.shared.get(work.waits_for)
        assert entry is not None, f"{work.ref} waits for what nobody does"
        assert work in entry.waiting


def _check_engines(state: State, works: list[Work]) -> None:
    running = [work for work in works if work.life is Life.RUNNING and work.role is Role.CALL]
    for engine, view in state.fleet.views.items():
        inside = [work for work in running if work.engine == engine]
        assert len(inside) == view.running == len(state.fleet.inside[engine]), f"{engine} is miscounted"
        assert view.running <= view.spec.max_running, f"{engine} holds more than it may"
        assert not (view.exclusive and view.running != 1), f"{engine} runs others beside a suspect"
        blocks = {block for work in inside for block in work.prefix}
        assert state.fleet.caches[engine].blocks_in_flight == len(blocks), f"{engine}: blocks in flight are miscounted"


def _check_tools(state: State, works: list[Work]) -> None:
    counts = dict.fromkeys(state.tools.running, 0)
    for work in works:
        if work.life is Life.RUNNING and work.tool is not None:
            counts[work.tool.name] += 1
            assert counts[work.tool.name] <= work.tool.most_in_flight, f"{work.tool.name} runs more often than it may"
    assert counts == state.tools.running, "tool slots are miscounted"
