"""Calls that wait for an engine in the order of a rule (`executor.policy.rules`)."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from math import inf

from executor.core.fleet import KnownLoad
from executor.core.life import Life
from executor.core.work import Work
from executor.policy.asking import Asking
from executor.policy.fairness import Account
from planner.ir.ids import EngineId


@dataclass(slots=True, eq=False)
class Waiting:
    """A call in a line. `queued` tells whether it has left and come again since; `load_s` is what it is of the engine's
    time, where it is bound to one."""

    work: Work
    asking: Asking
    queued: int
    load_s: float = 0.0
    key: float = 0.0
    known: dict[EngineId, KnownLoad] = field(default_factory=dict)
    looked_at: list[EngineId] = field(default_factory=list)  # the last time it could be sent
    number: int = 0

    @property
    def waits(self) -> bool:
        """False when it was dropped: then it is passed over."""
        return self.work.life is Life.QUEUED and self.work.queued == self.queued

    def __lt__(self, other: "Waiting") -> bool:
        return (self.key, self.number) < (other.key, other.number)


class Line:
    """Least key first; of equal keys, who came first."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._came = 0
        self.load_s = 0.0

    def __len__(self) -> int:
        """Works dropped since they were last looked at count."""
        return len(self._waiting)

    def push(self, key: float, waiting: Waiting) -> None:
        self._came += 1
        waiting.key, waiting.number = key, self._came
        self.load_s += waiting.load_s
        insort(self._waiting, waiting)

    def first(self, most: int) -> list[Waiting]:
        """The first that wait, no more than `most`."""
        found = self._waiting[:most]
        if all(waiting.waits for waiting in found):
            return found
        for waiting in list(self._waiting):
            if not waiting.waits:
                self.remove(waiting)
        return self._waiting[:most]

    def remove(self, waiting: Waiting) -> None:
        """It is sent, or given up."""
        del self._waiting[bisect_left(self._waiting, waiting)]
        self.load_s = self.load_s - waiting.load_s if self._waiting else 0.0


@dataclass(slots=True)
class Given:
    """What an engine was ever given by a rule that binds calls at once."""

    calls: int = 0
    stage_s: float = 0.0


@dataclass(slots=True, eq=False)
class Lines:
    """The calls of one pool that wait for any engine, by whose they are, and those that are bound to one. `came`
    counts both."""

    open: dict[Account, Line] = field(default_factory=dict)
    bound: dict[EngineId, Line] = field(default_factory=dict)

    came: int = 0
    looked: tuple[int, float, int] | None = None

    def push(self, key: float, waiting: Waiting) -> None:
        """It waits for any engine."""
        self.came += 1
        self.open.setdefault(waiting.work.program.account, Line()).push(key, waiting)

    def anything_new(self, changes: int, opened_s: float) -> bool:
        """Whether a call came, or an engine changed or opened, since it was last asked: else nothing can be sent."""
        before, self.looked = self.looked, (changes, opened_s, self.came)
        return before != self.looked

    def bind(self, engine: EngineId, key: float, waiting: Waiting) -> None:
        """It waits for that engine."""
        self.came += 1
        self.of(engine).push(key, waiting)

    def first_key(self, accounts: Collection[Account] | None = None) -> tuple[float]:
        """The place of the first that waits, of the accounts where they are given, among those of other pools."""
        lines = self.open.values() if accounts is None else [self.open[one] for one in accounts if one in self.open]
        return (min((one.key for line in (*lines, *self.bound.values()) for one in line.first(1)), default=inf),)

    @property
    def waiting(self) -> int:
        """How many wait for any engine."""
        return sum(len(line) for line in self.open.values())

    def some(self, accounts: Collection[Account], *, one: bool = False) -> "SomeLines":
        """Those that wait for any engine and are of one of the accounts, as one line."""
        return SomeLines({account: self.open[account] for account in accounts if account in self.open}, one=one)

    def accounts(self) -> list[Account]:
        """Whose calls wait for any engine."""
        waiting = [account for account, line in self.open.items() if line.first(1)]
        if len(waiting) < len(self.open):
            self.open = {account: self.open[account] for account in waiting}
        return waiting

    def of(self, engine: EngineId) -> Line:
        if engine not in self.bound:
            self.bound[engine] = Line()
        return self.bound[engine]

    def take_all(self) -> Iterator[Work]:
        """Everyone who waits, no longer in line."""
        for line in (*self.open.values(), *self.bound.values()):
            while waiting := line.first(1):
                line.remove(waiting[0])
                yield waiting[0].work

    @property
    def empty(self) -> bool:
        return not any(line.first(1) for line in (*self.open.values(), *self.bound.values()))


class SomeLines:
    """Several lines as one. With `one`, nobody is first any more once somebody was removed: whose turn it is may have
    changed."""

    def __init__(self, lines: Mapping[Account, Line], *, one: bool) -> None:
        self._lines, self._one = lines, one
        self.removed = 0

    def first(self, most: int) -> Iterator[Waiting]:
        found = [line.first(most) for line in self._lines.values()]
        for waiting in sorted(chain(*found), key=lambda waiting: waiting.key)[:most]:
            if self._one and self.removed:
                return
            yield waiting

    def remove(self, waiting: Waiting) -> None:
        self._lines[waiting.work.program.account].remove(waiting)
        self.removed += 1
