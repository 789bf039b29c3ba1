"""The engines of one pool in the orders in which they are asked for, kept so that no call goes through all of them."""

from bisect import bisect_left, insort
from collections.abc import Sequence

from executor.policy.routing import EngineView, has_room
from planner.ir.ids import EngineId


class Serving:
    """Those that take calls: in the order of the fleet, by how slow they are, and those with room by their load."""

    def __init__(self, views: Sequence[EngineView]) -> None:
        self._views = {view.spec.id: view for view in views}
        self._begin()

    def put(self, view: EngineView) -> None:
        """One of the engines has changed."""
        engine = view.spec.id
        before = self._views[engine]
        self._views[engine] = view
        takes_calls = view.takes_calls
        if takes_calls != before.takes_calls:
            self._begin()
        elif takes_calls:
            self._up[self._places[engine]] = view
            self._put_by_load(engine, view)
            if view.slowness != before.slowness:
                del self._slowness[bisect_left(self._slowness, before.slowness)]
                insort(self._slowness, view.slowness)

    def up(self) -> list[EngineView]:
        """In the order of the fleet."""
        return self._up.copy()

    def with_room(self) -> list[EngineView]:
        """Those that have room for one more call, the least loaded first."""
        return self._open.copy()

    def takes_calls(self, engine: EngineId) -> bool:
        return engine in self._places

    def has_room(self, engine: EngineId) -> bool:
        """Whether it is one of those with room."""
        return engine in self._keys_of

    @property
    def usual_slowness(self) -> float:
        """The median engine's; 1 where none answers."""
        slowness, middle = self._slowness, len(self._slowness) // 2
        if not slowness:
            return 1.0
        return slowness[middle] if len(slowness) % 2 else (slowness[middle - 1] + slowness[middle]) / 2

    def _begin(self) -> None:
        self._up = [view for view in self._views.values() if view.takes_calls]
        self._places = {view.spec.id: place for place, view in enumerate(self._up)}
        self._slowness = sorted(view.slowness for view in self._up)
        self._keys: list[tuple[float, EngineId]] = []
        self._open: list[EngineView] = []
        self._keys_of: dict[EngineId, tuple[float, EngineId]] = {}
        for view in self._up:
            self._put_by_load(view.spec.id, view)

    def _put_by_load(self, engine: EngineId, view: EngineView) -> None:
        before = self._keys_of.pop(engine, None)
        if before is not None:
            place = bisect_left(self._keys, before)
            del self._keys[place], self._open[place]
        if has_room(view):
            key = self._keys_of[engine] = view.load_s, engine
            place = bisect_left(self._keys, key)
            self._keys.insert(place, key)
            self._open.insert(place, view)
