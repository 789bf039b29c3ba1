"""What programs turn out to cost, by their workflow."""

from collections import OrderedDict
from dataclasses import dataclass

#: How many workflows are remembered; the one that ended longest ago is forgotten first.
KEPT = 1024
#: Of the next program on a mean, once there were many; the first ones weigh more.
SHARE_OF_ONE = 0.02
#: What a program is taken to cost before any has ended, in seconds of engines' time and from begin to end.
UNKNOWN_S = 1.0


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """Means over programs that ended: seconds of engines' time, and from begin to end. `ended` of them were seen."""

    engine_s: float = UNKNOWN_S
    took_s: float = UNKNOWN_S
    ended: int = 0


class ProgramCosts:
    def __init__(self) -> None:
        self._seen: OrderedDict[str, ProgramCost] = OrderedDict()
        self._all = ProgramCost()

    def of(self, workflow: str) -> ProgramCost:
        """Of a workflow none of whose programs has ended, what programs cost whatever they are of."""
        return self._seen.get(workflow, self._all)

    def learn(self, workflow: str, engine_s: float, took_s: float) -> None:
        before = self._seen.pop(workflow, ProgramCost())
        self._seen[workflow] = _after(before, engine_s, took_s)
        self._all = _after(self._all, engine_s, took_s)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)


def _after(before: ProgramCost, engine_s: float, took_s: float) -> ProgramCost:
    share = max(SHARE_OF_ONE, 1 / (before.ended + 1))
    return ProgramCost(
        before.engine_s + share * (engine_s - before.engine_s),
        before.took_s + share * (took_s - before.took_s),
        before.ended + 1,
    )
