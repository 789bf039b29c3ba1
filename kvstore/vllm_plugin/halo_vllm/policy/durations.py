"""What was seen of the pauses between a program's calls, by tool and class of arguments."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice

from halo_vllm.policy.forecast import Forecast, Unknown
from halo_vllm.policy.survival import Survival, slowest, survival
from halo_vllm.policy.tools import ToolKey

ENOUGH = 8
"""Pauses that have to be known before a law is learnt from them."""

SETTLED_S = 10.0
"""A pause that still runs counts as known once it has lasted so long."""

COHORT = 128
EVERY_COHORT = 512
MOST_COHORTS = 1024
MOST_OPEN = 200_000

_EVERY = ToolKey("")


class Durations:
    """The last pauses that began, by (tool, argument class), by tool, and all: each a cohort of bounded size.

    A cohort holds pauses in the order they began, ended or not, so long ones are not under-counted: the ones still open
    are censored at their age. The state of a decider: the same calls give the same answers. Times are the caller's, in
    seconds, and never go back.
    """

    def __init__(self) -> None:
        self._cohorts: OrderedDict[ToolKey, _Cohort] = OrderedDict({_EVERY: _Cohort(EVERY_COHORT)})
        self._open: dict[str, tuple[_Pause, ...]] = {}

    def began(self, program: str, tools: Sequence[ToolKey], now_s: float) -> None:
        """`program` waits for all of `tools`, none if it is not known for what."""
        self.lost(program, now_s)
        self._open[program] = tuple(self._cohort(key).began(now_s) for key in _names(tools))
        if len(self._open) > MOST_OPEN:
            self.lost(next(iter(self._open)), now_s)

    def named(self, program: str, tools: Sequence[ToolKey], now_s: float) -> None:
        """It is known only now for what `program` waits; the pause began when it began."""
        pauses = self._open.get(program, ())
        if len(pauses) != 1:
            return  # not waiting, or named already
        others = (self._cohort(key).began(pauses[0].begin_s) for key in _names(tools) if key != _EVERY)
        self._open[program] = (*pauses, *others)

    def returned(self, program: str, now_s: float) -> None:
        """The next call of `program` is here."""
        for pause in self._open.pop(program, ()):
            pause.close(now_s, ended=True)

    def lost(self, program: str, now_s: float) -> None:
        """Nobody waits for `program` any longer: its pause lasted at least until now."""
        for pause in self._open.pop(program, ()):
            pause.close(now_s, ended=False)

    def forecast(self, tools: Sequence[ToolKey], now_s: float) -> Forecast:
        """The law of a pause for all of `tools`: of just these together if that was seen often enough, else of the
        slowest of them; each by class, else by tool, else by all pauses; `Unknown` while too little was seen."""
        if len(set(tools)) > 1 and (together := self._law(_together(tools), now_s)):
            return together
        laws = [self._nearest(key, now_s) for key in sorted(set(tools)) or [_EVERY]]
        known = [law for law in laws if law is not None]
        if not known or len(known) < len(laws):
            return Unknown()
        return known[0] if len(known) == 1 else slowest(known)

    def ended_s(self, tool: str | None = None) -> tuple[float, ...]:
        """The pauses for `tool` that ended, or all: what the paper's rules learn from."""
        cohort = self._cohorts.get(_EVERY if tool is None else ToolKey(tool))
        return cohort.ended_s() if cohort else ()

    def _nearest(self, key: ToolKey, now_s: float) -> Survival | None:
        for name in (key, ToolKey(key.tool), _EVERY):
            if law := self._law(name, now_s):
                return law
        return None

    def _law(self, key: ToolKey, now_s: float) -> Survival | None:
        cohort = self._cohorts.get(key)
        return cohort.law(now_s) if cohort else None

    def _cohort(self, key: ToolKey) -> "_Cohort":
        if key not in self._cohorts:
            self._cohorts[key] = _Cohort(COHORT)
        if key != _EVERY:
            self._cohorts.move_to_end(key)
        if len(self._cohorts) > MOST_COHORTS:
            del self._cohorts[next(islice(self._cohorts, 1, None))]  # the first is that of all pauses
        return self._cohorts[key]


def _names(tools: Sequence[ToolKey]) -> list[ToolKey]:
    """The cohorts a pause belongs to, that of all pauses first. Which of several tools took long is not known, so they
    are a tool of their own."""
    key = _together(tools) if len(set(tools)) > 1 else next(iter(tools), _EVERY)
    return list(dict.fromkeys((_EVERY, ToolKey(key.tool), key)))


def _together(tools: Sequence[ToolKey]) -> ToolKey:
    return ToolKey("+".join(sorted({key.tool for key in tools})), "+".join(sorted({key.arguments for key in tools})))


class _Pause:
    __slots__ = ("begin_s", "cohort", "ended", "lasted_s")

    def __init__(self, cohort: "_Cohort", begin_s: float) -> None:
        self.cohort = cohort
        self.begin_s = begin_s
        self.lasted_s: float | None = None
        self.ended = False

    def close(self, now_s: float, *, ended: bool) -> None:
        self.lasted_s, self.ended = max(now_s - self.begin_s, 0.0), ended
        self.cohort.changed()

    def seen(self, now_s: float) -> tuple[float, bool]:
        return (max(now_s - self.begin_s, 0.0) if self.lasted_s is None else self.lasted_s), self.ended


class _Cohort:
    def __init__(self, size: int) -> None:
        self._pauses: deque[_Pause] = deque(maxlen=size)
        self._law: Survival | None = None
        self._learnt_s: float | None = None

    def began(self, now_s: float) -> _Pause:
        self._pauses.append(pause := _Pause(self, now_s))
        return pause

    def changed(self) -> None:
        self._learnt_s = None

    def ended_s(self) -> tuple[float, ...]:
        return tuple(pause.lasted_s for pause in self._pauses if pause.ended and pause.lasted_s is not None)

    def law(self, now_s: float) -> Survival | None:
        """Learnt anew when a pause closed, or when those still open have become notably older."""
        if self._learnt_s is None or now_s - self._learnt_s > SETTLED_S:
            self._learnt_s, self._law = now_s, self._learn(now_s)
        return self._law

    def _learn(self, now_s: float) -> Survival | None:
        known = sum(pause.lasted_s is not None or now_s - pause.begin_s >= SETTLED_S for pause in self._pauses)
        return survival(pause.seen(now_s) for pause in self._pauses) if known >= ENOUGH else None
