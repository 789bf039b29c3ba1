"""How quickly the fleet gives its time, as far as it was seen while work waited."""

from math import exp

#: What was seen so long ago counts for little.
REMEMBERED_S = 120.0
#: Before it was seen for so long, engines are taken to give a second in one.
LEAST_S = 5.0


class Pace:
    def __init__(self) -> None:
        self._engine_s = self._seconds = 0.0
        self._at: float | None = None

    def gave(self, engine_s: float, now_s: float, *, waiting: bool) -> None:
        """A call that took so much is answered; `waiting` says that others wait for engines."""
        before_s, self._at = self._at, now_s if waiting else None
        if before_s is None:
            return
        keep = exp(-(now_s - before_s) / REMEMBERED_S)
        self._engine_s = self._engine_s * keep + engine_s
        self._seconds = self._seconds * keep + now_s - before_s

    @property
    def seen(self) -> bool:
        """For long enough."""
        return self._seconds >= LEAST_S

    def rate(self, otherwise: float) -> float:
        """Seconds of engines' time given in one."""
        return self._engine_s / self._seconds if self.seen else otherwise
