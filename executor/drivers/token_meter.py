"""How many tokens engines read and wrote lately, counted second by second."""

from collections import deque
from collections.abc import Sequence

from executor.engines.port import Usage
from executor.store.told import Served
from planner.ir.ids import EngineId

#: Nobody asks about more.
REMEMBERED_S = 3600


class TokenMeter:
    """Seconds are those of whoever notes and asks; they never run backwards by more than a second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, dict[EngineId, Served]]] = deque(maxlen=REMEMBERED_S)

    def note(self, at: float, engine: EngineId, usage: Usage) -> None:
        """An engine answered a call."""
        second = int(at)
        if not self._seconds or self._seconds[-1][0] < second:
            self._seconds.append((second, {}))
        served = self._seconds[-1][1]
        served[engine] = served.get(engine, Served(engine)).plus(usage)

    def since(self, at: float) -> Sequence[Served]:
        """By engine, what was noted from then on, to the second."""
        found: dict[EngineId, Served] = {}
        for second, served in reversed(self._seconds):
            if second < int(at):
                break
            for engine, one in served.items():
                found[engine] = found.get(engine, Served(engine)) + one
        return [found[engine] for engine in sorted(found)]
