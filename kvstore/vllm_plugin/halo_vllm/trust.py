"""Whether calls that name no program are turns of programs, or stand alone: told by how many come back."""

from collections import OrderedDict

from halo_vllm.policy.meters import Mean

PATIENCE_S = 15.0
ENOUGH = 4
LEAST_SHARE = 0.5
MOST_OPEN = 4096


class Trust:
    """Given while at least half of the first calls without a name were gone on from. Until then they are left alone, as
    without the plugin: keeping what nobody comes back for, or holding calls back for its sake, would only cost.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, float] = OrderedDict()
        self._share, self._seen = Mean(keep=0.9), 0

    @property
    def given(self) -> bool:
        return self._seen >= ENOUGH and self._share.value(0.0) >= LEAST_SHARE

    def wait(self, program: str, now_s: float) -> None:
        """Its first call ended."""
        self._open[program] = now_s + PATIENCE_S
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def returned(self, program: str) -> None:
        if self._open.pop(program, None) is not None:
            self._saw(True)

    def settle(self, now_s: float) -> None:
        """Those not back by now stood alone."""
        while self._open and next(iter(self._open.values())) <= now_s:
            self._open.popitem(last=False)
            self._saw(False)

    def _saw(self, returned: bool) -> None:
        self._seen += 1
        self._share.saw(float(returned))
