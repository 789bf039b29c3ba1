"""A service's knobs are turned by what came in lately, watched, and turned back where the promise is not kept."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import active_children

import pytest
from prometheus_client import CollectorRegistry
from service_stand import service

from executor.core.knobs import Tuned, setting_of, with_setting
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.drivers.shadow import Tuning, Turn
from executor.engines.port import EngineSpec
from executor.events import Event, Retuned, WakeUp
from executor.journal import RecentEvents, decode_events, encode_event
from executor.policy.rules import RULES
from executor.policy.tuning import Comparison, Guard, Setting, changed
from halo.service import views
from halo.tuning import Look, LookFailed, Tuner, look, look_aside
from halo.tuning_metrics import TuningMetrics
from planner.ir.ids import EngineId

BETTER = Comparison(0.8, 0.7, 0.9, 6)


@dataclass
class Driver:
    """It is turned at once."""

    tuned: Tuned = field(default_factory=lambda: Tuned(Limits(), RULES["halo"]))
    turned: list[Setting] = field(default_factory=list)

    def retune(self, setting: Setting) -> None:
        self.tuned = with_setting(self.tuned, setting)
        self.turned.append(setting)


@dataclass
class Hands:
    """A clock that only moves when told."""

    at: float = 0.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Looks:
    """Finds what the test says, one after the other; `asked` are the windows it was shown, `turned` since when the
    setting was in force, and what it was before."""

    driver: Driver
    found: list[tuple[dict[str, float], float | None]]
    asked: list[Sequence[Event]] = field(default_factory=list)
    turned: list[Turn | None] = field(default_factory=list)

    async def __call__(
        self, events: Sequence[Event], fleet: Sequence[EngineSpec], tuned: Tuned, guard: Guard, turned: Turn | None
    ) -> Look:
        self.asked.append(events)
        self.turned.append(turned)
        steps, reality = self.found.pop(0)
        current = setting_of(tuned)
        better = bool(steps)
        return Look(Tuning(current, changed(current, steps), (), BETTER, better, "as told"), 40, reality)


def tuner(*found: tuple[dict[str, float], float | None]) -> tuple[Tuner, Driver, Looks, RecentEvents, Hands]:
    driver, clock, window = Driver(), Hands(), RecentEvents(100)
    looks = Looks(driver, list(found))
    return Tuner(driver, window, (), clock, looks, 60.0), driver, looks, window, clock


async def test_a_better_setting_is_taken_and_kept_where_reality_agrees():
    one, driver, _, _, _ = tuner(({"kv_fill": 0.8}, 1.1), ({}, 1.15))
    await one.step()
    assert dict(setting_of(driver.tuned))["kv_fill"] == 0.8
    assert (one.state.changes, one.state.watching, one.state.why) == (1, True, "as told")
    await one.step()
    assert dict(setting_of(driver.tuned))["kv_fill"] == 0.8
    assert (one.state.changes, one.state.rollbacks, one.state.watching) == (1, 0, False)


async def test_a_setting_that_does_not_keep_its_promise_is_taken_back_and_not_tried_again():
    one, driver, _, _, _ = tuner(({"kv_fill": 0.8}, 1.1), ({}, 1.6), ({"kv_fill": 0.8}, 1.1))
    began = setting_of(driver.tuned)
    for _ in range(3):
        await one.step()
    assert setting_of(driver.tuned) == began
    assert (one.state.changes, one.state.rollbacks) == (1, 1)
    assert one.state.setting == one.state.began == began


async def test_after_a_change_a_look_is_told_since_when_it_is_in_force_and_what_was_before():
    one, driver, looks, window, clock = tuner(({"kv_fill": 0.8}, 1.0), ({}, 1.0))
    before = driver.tuned
    window.append(WakeUp(5.0))
    clock.at = 10.0
    await one.step()
    window.append(WakeUp(12.0))
    await one.step()
    assert [[event.at for event in events] for events in looks.asked] == [[5.0], [5.0, 12.0]]
    assert looks.turned == [None, Turn(10.0, before)]


async def test_with_too_little_traffic_a_change_is_neither_made_nor_judged():
    one, driver, _, _, _ = tuner(({"kv_fill": 0.8}, 1.0), ({}, None), ({}, 2.0))
    for _ in range(3):
        await one.step()
    assert one.state.rollbacks == 1
    assert len(driver.turned) == 2


async def test_a_look_is_taken_in_a_process_of_its_own():
    tuned = Tuned(Limits(), RULES["halo"])
    found = await look_aside([WakeUp(1.0)], (), tuned, Guard(), nice=0)
    assert found == look([WakeUp(1.0)], (), tuned, Guard())
    assert (found.programs, found.reality) == (0, None)


class Stuck:
    """Nobody who is sent it gets to read it."""

    def __reduce__(self) -> tuple[Callable[[float], None], tuple[float]]:
        return time.sleep, (3600.0,)


async def test_a_process_that_is_killed_while_it_looks_is_a_look_that_failed():
    asked = look_aside([WakeUp(1.0)], (), Stuck(), Guard(), nice=0)  # type: ignore[arg-type]
    looking = asyncio.create_task(asked)
    before = active_children()
    while not looking.done() and active_children() == before:
        await asyncio.sleep(0.001)
    for child in active_children():
        child.kill()
    with pytest.raises(LookFailed, match="ended with -9"):
        await looking


async def test_a_look_that_raises_says_what_it_raised():
    with pytest.raises(LookFailed, match="AttributeError"):
        await look_aside([WakeUp(1.0)], (), "no setting", Guard(), nice=0)  # type: ignore[arg-type]


async def test_after_looks_that_fail_the_next_comes_later_and_it_is_told():
    one, driver, looks, _, clock = tuner(*[({}, 1.0)] * 9)
    slept: list[float] = []

    class Ended(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 4:
            raise Ended

    async def look_at(*asked: object) -> Look:
        if len(slept) in (1, 2):
            raise LookFailed("the process that looked ended with -9")
        return await looks(*asked)  # type: ignore[arg-type]

    clock.sleep = sleep  # type: ignore[method-assign]
    one = Tuner(driver, RecentEvents(10), (), clock, look_at, 60.0)
    with pytest.raises(Ended):
        await one.run()
    assert slept == [60.0, 120.0, 240.0, 60.0, 60.0]
    assert (one.state.looks, one.state.failures) == (2, 2)
    assert not one.state.why.startswith("the last look failed")
    registry = CollectorRegistry()
    registry.register(TuningMetrics(lambda: one.state))
    assert registry.get_sample_value("halo_tuning_failures_total") == 2.0
    assert registry.get_sample_value("halo_tuning_setting", {"knob": "kv_fill"}) == dict(one.state.setting)["kv_fill"]


def test_a_window_keeps_the_newest_and_passes_all_on():
    passed: list[Event] = []

    class Log:
        def append(self, event: Event) -> None:
            passed.append(event)

    window = RecentEvents(2, Log())
    for at in (1.0, 2.0, 3.0):
        window.append(WakeUp(at))
    assert [event.at for event in window.events()] == [2.0, 3.0]
    assert len(passed) == 3


async def test_a_service_tells_whether_it_is_tuned_and_how():
    async with service() as stand:
        told = (await stand.api.get("/v1/tuning")).json()
    assert (told["on"], told["setting"]) == (False, {})
    one, *_ = tuner(({"kv_fill": 0.8}, 1.1))
    await one.step()
    shown = views.tuning(one.state)
    assert (shown.on, shown.setting["kv_fill"], shown.changes, shown.watching) == (True, 0.8, 1, True)
    assert shown.found is not None
    assert (shown.found.ratio, shown.found.samples) == (BETTER.ratio, BETTER.samples)


async def test_the_core_goes_by_a_new_setting_from_then_on():
    core = Scheduler([EngineSpec(EngineId("a"), "scripted", ("small",))])
    core.handle(Retuned(1.0, {"active_programs": 64.0, "kv_fill": 0.8, "of an older Halo": 1.0}))
    assert core.tuned.limits.active_programs == 64
    assert dict(setting_of(core.tuned))["kv_fill"] == 0.8
    assert list(decode_events([encode_event(Retuned(1.0, {"kv_fill": 0.8}))])) == [Retuned(1.0, {"kv_fill": 0.8})]
