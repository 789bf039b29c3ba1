"""What was seen of the pauses between a program's calls, by tool and class of arguments."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice

from halo_vllm.policy.forecast import Forecast, Unknown
from halo_vllm.policy.survival import Survival, blend, slowest, survival
from halo_vllm.policy.tools import ToolKey

ENOUGH = 8
"""Pauses that have to be known before a law is learnt from them."""

PRIOR = 8
"""As many pauses the law of a tool weighs in that of a class of its calls, and the law of all in that of a tool.

Without it few pauses are taken for the whole truth, and nothing is held past the longest of them: on recorded tool
calls of coding agents, where a hit is worth 8 s, that cost 12 % more than with it, and more than knowing no tool.
"""

SETTLED_S = 10.0
"""A pause that still runs counts as known once it has lasted so long."""

COHORT = 128
EVERY_COHORT = 256
MOST_COHORTS = 1024
MOST_OPEN = 200_000

_EVERY = ToolKey("")
_Prior = Callable[[], Survival | None]


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
        self._open[program] = tuple([self._cohort(key).began(now_s) for key in _names(tuple(tools))])
        if len(self._open) > MOST_OPEN:
            self.lost(next(iter(self._open)), now_s)

    def named(self, program: str, tools: Sequence[ToolKey]) -> None:
        """It is known only now for what `program` waits; the pause began when it began."""
        pauses = self._open.get(program, ())
        if len(pauses) != 1:
            return  # not waiting, or named already
        others = (self._cohort(key).began(pauses[0].begin_s) for key in _names(tuple(tools)) if key != _EVERY)
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
        """The law of a pause for all of `tools`: of a class drawn towards its tool, of a tool towards all pauses, of
        several at once towards the slowest of them. `Unknown` while too little was seen of anything."""
        keys = sorted(set(tools))
        if len(keys) < 2:
            law = self._law(keys[0] if keys else _EVERY, now_s)
        else:
            law = self._drawn(_together(keys), now_s, lambda: self._slowest(keys, now_s))
        return Unknown() if law is None else law

    def ended_s(self, tool: str | None = None) -> tuple[float, ...]:
        """The pauses for `tool` that ended, or all: what the paper's rules learn from."""
        cohort = self._cohorts.get(_EVERY if tool is None else ToolKey(tool))
        return cohort.ended_s() if cohort else ()

    def _slowest(self, keys: Sequence[ToolKey], now_s: float) -> Survival | None:
        laws = [law for key in keys if (law := self._law(key, now_s))]
        return slowest(laws) if len(laws) == len(keys) else None

    def _law(self, key: ToolKey, now_s: float) -> Survival | None:
        if key == _EVERY:
            return self._drawn(key, now_s, lambda: None)
        return self._drawn(key, now_s, lambda: self._law(ToolKey(key.tool) if key.arguments else _EVERY, now_s))

    def _drawn(self, key: ToolKey, now_s: float, prior: _Prior) -> Survival | None:
        cohort = self._cohorts.get(key)
        return cohort.law(now_s, prior) if cohort else prior()

    def _cohort(self, key: ToolKey) -> "_Cohort":
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = _Cohort(COHORT)
        if key != _EVERY:
            self._cohorts.move_to_end(key)
        if len(self._cohorts) > MOST_COHORTS:
            del self._cohorts[next(islice(self._cohorts, 1, None))]  # the first is that of all pauses
        return cohort


@lru_cache(maxsize=MOST_COHORTS)
def _names(tools: tuple[ToolKey, ...]) -> tuple[ToolKey, ...]:
    """The cohorts a pause belongs to, that of all pauses first. Which of several tools took long is not known, so they
    are a tool of their own."""
    key = _together(tools) if len(set(tools)) > 1 else next(iter(tools), _EVERY)
    return tuple(dict.fromkeys((_EVERY, ToolKey(key.tool), key)))


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

    def law(self, now_s: float, prior: _Prior) -> Survival | None:
        """Learnt anew when a pause closed, or when those still open, or the prior, have become notably older."""
        if self._learnt_s is None or now_s - self._learnt_s > SETTLED_S:
            self._learnt_s, self._law = now_s, self._learn(now_s, prior())
        return self._law

    def _learn(self, now_s: float, prior: Survival | None) -> Survival | None:
        known = sum(pause.lasted_s is not None or now_s - pause.begin_s >= SETTLED_S for pause in self._pauses)
        if known == 0 or (prior is None and known < ENOUGH):
            return prior
        own = survival(pause.seen(now_s) for pause in self._pauses)
        return own if prior is None else blend(own, known, prior, PRIOR)
