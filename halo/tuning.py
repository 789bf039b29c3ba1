"""The scheduler's knobs turned while a service runs: found by shadow runs on recent traffic, guarded, taken back."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Protocol

import structlog

from executor.clock import Clock
from executor.core.knobs import Tuned, setting_of
from executor.drivers.shadow import FEWEST_PROGRAMS, Tuning, Turn, reality, tune
from executor.engines.port import EngineSpec
from executor.events import Event
from executor.journal import RecentEvents
from executor.policy.tuning import Comparison, Guard, Setting, is_worse_than_told
from executor.recording import record, since

#: A shadow run takes a core for so long as it takes, and leaves it to whoever else wants it.
NICE = 15

#: After looks that failed one after the other, the next one comes up to so many times twice as late.
MOST_DOUBLINGS = 5

#: What whoever began the process set as a bound, and not as a guess.
_BOUNDS = ("active_programs",)

log = structlog.get_logger(__name__)


class LookFailed(Exception):
    """A look at recent traffic came to nothing. Whatever was found before stays in force."""


class Tunable(Protocol):
    """What is tuned: a driver."""

    @property
    def tuned(self) -> Tuned: ...

    def retune(self, setting: Setting) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What a shadow run found in a window with so many `programs` that came in under the setting in force. `reality` is
    what they really cost over what the simulation says that they cost; None where there were too few."""

    tuning: Tuning
    programs: int
    reality: float | None


@dataclass(frozen=True, slots=True)
class TuningState:
    """`setting` is in force, and `began` was when the process began. `why` is what the newest look said; `found` is how
    the newest candidate did on the newest traffic. While `watching`, a change can still be taken back."""

    setting: Setting
    began: Setting
    looks: int = 0
    failures: int = 0
    changes: int = 0
    rollbacks: int = 0
    why: str = "nothing was looked at yet"
    found: Comparison | None = None
    watching: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """What was in force before, what came, and how reality stood to the simulation."""

    before: Setting
    after: Setting
    reality: float


LookAt = Callable[[Sequence[Event], Sequence[EngineSpec], Tuned, Guard, Turn | None], Awaitable[Look]]


class Tuner:
    """Looks every `every_s` at what came in since the last change, and changes the setting where another is better by
    more than the noise. If reality then costs more than the simulation says, by more than before, it is taken back, and
    not tried again."""

    def __init__(
        self,
        driver: Tunable,
        window: RecentEvents,
        fleet: Sequence[EngineSpec],
        clock: Clock,
        look_at: LookAt,
        every_s: float,
        guard: Guard | None = None,
    ) -> None:
        self._driver, self._window, self._fleet, self._clock = driver, window, fleet, clock
        self._look_at, self._every_s, self._guard = look_at, every_s, guard or Guard()
        self._turned: Turn | None = None
        self._failed_in_a_row = 0
        self._watched: _Change | None = None
        self._rejected: set[Setting] = set()
        began = setting_of(driver.tuned)
        self._guard = replace(self._guard, most=tuple(pair for pair in began if pair[0] in _BOUNDS))
        self.state = TuningState(began, began)

    async def run(self) -> None:
        """For ever. After a look that failed the next one comes later, each time twice as late."""
        while True:
            await self._clock.sleep(self._every_s * 2 ** min(self._failed_in_a_row, MOST_DOUBLINGS))
            try:
                await self.step()
                self._failed_in_a_row = 0
            except LookFailed as error:
                self._note_failed(error)

    def _note_failed(self, error: LookFailed) -> None:
        self._failed_in_a_row += 1
        self.state = replace(self.state, failures=self.state.failures + 1, why=f"the last look failed: {error}")
        log.warning("look at recent traffic failed", why=str(error), in_a_row=self._failed_in_a_row)

    async def step(self) -> None:
        """Look once, and do what that asks for."""
        tuned, events = self._driver.tuned, self._window.events()
        look = await self._look_at(events, self._fleet, tuned, self._guard, self._turned)
        self.state = replace(self.state, looks=self.state.looks + 1, why=look.tuning.why, found=look.tuning.last)
        if look.reality is None:
            return
        if self._watched is not None and is_worse_than_told(self._watched.reality, look.reality, self._guard):
            self._take_back(self._watched, look.reality)
            return
        self._watched = None
        if look.tuning.better and look.tuning.chosen not in self._rejected:
            self._change(look.tuning, look.reality)
        self.state = replace(self.state, watching=self._watched is not None)

    def _change(self, found: Tuning, reality: float) -> None:
        log.warning("scheduler tuned", why=found.why, **_steps(found.current, found.chosen))
        self._watched = _Change(found.current, found.chosen, reality)
        self._turn(found.chosen)
        self.state = replace(self.state, changes=self.state.changes + 1)

    def _take_back(self, change: _Change, reality: float) -> None:
        why = f"taken back: reality cost {reality:.2f} times what was simulated, before the change {change.reality:.2f}"
        log.warning("tuning taken back", why=why, **_steps(change.after, change.before))
        self._rejected.add(change.after)
        self._watched = None
        self._turn(change.before)
        self.state = replace(self.state, rollbacks=self.state.rollbacks + 1, why=why, watching=False)

    def _turn(self, setting: Setting) -> None:
        """What came in before says nothing of the new setting."""
        self._turned = Turn(self._clock.now(), self._driver.tuned)
        self._driver.retune(setting)
        self.state = replace(self.state, setting=setting)


def look(
    events: Sequence[Event], fleet: Sequence[EngineSpec], tuned: Tuned, guard: Guard, turned: Turn | None = None
) -> Look:
    """One look at a window, in which the setting in force was `turned` to. Takes seconds to minutes of a core."""
    recording = record(events)
    recent = recording if turned is None else since(recording, turned.at)
    tuning = tune(recent, fleet, tuned, guard)
    if recent.programs < FEWEST_PROGRAMS:
        return Look(tuning, recent.programs, None)
    return Look(tuning, recent.programs, reality(recording, fleet, tuned, turned))


async def look_aside(
    events: Sequence[Event],
    fleet: Sequence[EngineSpec],
    tuned: Tuned,
    guard: Guard,
    turned: Turn | None = None,
    nice: int = NICE,
) -> Look:
    """A look in a process of its own, behind everybody else, which ends with it whatever it is at. Raises LookFailed
    where the process ends without an answer, or the look fails."""
    spawn = get_context("spawn")
    answers, tells = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_tell, args=(tells, nice, (events, fleet, tuned, guard, turned)), daemon=True)
    await asyncio.to_thread(child.start)
    tells.close()
    try:
        found: Look | str | None = await asyncio.to_thread(answers.recv)
    except EOFError:
        found = None
    finally:
        child.kill()
    await asyncio.to_thread(child.join)
    if isinstance(found, Look):
        return found
    raise LookFailed(found or f"the process that looked ended with {child.exitcode}")


_Asked = tuple[Sequence[Event], Sequence[EngineSpec], Tuned, Guard, Turn | None]


def _tell(tells: Connection, nice: int, asked: _Asked) -> None:
    os.nice(nice)
    try:
        tells.send(look(*asked))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a look, the service it is for goes on
        tells.send(f"{type(error).__name__}: {error}")


def _steps(before: Setting, after: Setting) -> dict[str, str]:
    was = dict(before)
    return {name: f"{was[name]:g} -> {value:g}" for name, value in after if was.get(name) != value}
