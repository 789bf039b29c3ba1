"""Tuning from end to end, in virtual time: traffic of a core, shadow runs of it, and what comes after them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from example_plans import generate, output

from executor.core.knobs import Tuned, setting_of, with_setting
from executor.core.limits import Limits
from executor.drivers.shadow import Turn, reality
from executor.drivers.simulated import Arrival, Simulation
from executor.engines.answers import Answer
from executor.engines.model.profiles import in_real_time, profile_of
from executor.engines.port import EngineSpec, GenerateRequest
from executor.events import Event
from executor.journal import RecentEvents
from executor.policy.rules import RULES
from executor.policy.tuning import Guard, Setting
from executor.recording import record, since
from halo.tuning import Look, Tuner, look
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, JobId, NodeRef
from planner.ir.plan import Input, Plan, ToolSpec
from planner.ir.values import Json
from planner.table import Table

#: Their KV holds a few conversations: with many at once, each turn begins by reading all of it again.
ENGINE = EngineSpec(EngineId("big"), "modelled", ("small",), gpu="A100", kv_tokens=24_000)
FLEET = (ENGINE, replace(ENGINE, id=EngineId("little"), gpu="L4", kv_tokens=12_000))
PROGRAMS, EVERY_S = 40, 0.15
STAGES = [generate("s0", Column("q"))]
for turn in (1, 2, 3):
    STAGES.append(generate(f"s{turn}", Column("q"), *(output(f"s{before}") for before in range(turn))))
CONVERSATION = Plan("talk", (Input("q"),), tuple(STAGES), output("s3"))


class Words:
    """A `World`: answers of some length, no tools."""

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        tokens = Random(f"{node}").randint(14, 48)
        return Answer("word " * tokens, output_tokens=tokens)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Any) -> tuple[Json, float]:
        raise AssertionError("there are no tools")


@dataclass
class House:
    """A `Tunable`, and the `Clock` of its tuner. Each wave of conversations goes to engines that are so many
    `times_slower` than their specs say, under the setting then in force."""

    times_slower: float = 1.0
    tuned: Tuned = field(default_factory=lambda: Tuned(Limits(), RULES["halo"]))
    window: RecentEvents = field(default_factory=lambda: RecentEvents(100_000))
    at: float = 0.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the test says when it is time")

    def retune(self, setting: Setting) -> None:
        self.tuned = with_setting(self.tuned, setting)

    async def wave(self, seed: int) -> None:
        draw, arrivals, at = Random(seed), list[Arrival](), self.at
        for number in range(PROGRAMS):
            at += draw.expovariate(1 / EVERY_S)
            text = " ".join(f"{draw.getrandbits(24):06x}" for _ in range(2600))
            table = Table.from_rows([{"q": text}], CONVERSATION.inputs)
            arrivals.append(Arrival(at, JobId(f"{seed}-{number}"), CONVERSATION, table))
        fleet = [replace(spec, profile=profile_of(spec).quicker(1 / self.times_slower)) for spec in FLEET]
        run = Simulation(fleet, Words(), self.tuned.limits, rule=self.tuned.rule)
        await run.run(arrivals)
        for event in run.events:
            self.window.append(event)
        self.at = max(event.at for event in run.events) + 1.0


_first: list[Look] = []


async def look_here(
    events: Sequence[Event], fleet: Sequence[EngineSpec], tuned: Tuned, guard: Guard, turned: Turn | None
) -> Look:
    """All tests begin alike, and a look takes seconds."""
    if turned is not None:
        return look(events, fleet, tuned, guard, turned)
    if not _first:
        _first.append(look(events, fleet, tuned, guard))
    return _first[0]


@pytest.mark.parametrize(("times_slower", "kept"), [(1.0, True), (2.0, False)])
async def test_what_helps_by_the_shadow_run_is_taken_and_stays_only_where_engines_keep_the_promise(
    times_slower: float, kept: bool
) -> None:
    house = House()
    tuner = Tuner(house, house.window, FLEET, house, look_here, 60.0)
    began = setting_of(house.tuned)
    await house.wave(1)
    await tuner.step()
    assert (tuner.state.changes, tuner.state.watching) == (1, True), tuner.state.why
    assert tuner.state.found is not None
    assert tuner.state.found.high < 1
    assert house.tuned.limits.active_programs < Limits().active_programs

    house.times_slower = times_slower
    await house.wave(2)
    await tuner.step()
    assert (tuner.state.rollbacks, tuner.state.watching) == (0 if kept else 1, False)
    assert (setting_of(house.tuned) == began) == (not kept)
    assert kept or tuner.state.why.startswith("taken back: reality cost")


@pytest.mark.parametrize("active_programs", [4.0, 512.0])
async def test_what_was_read_again_and_what_was_not_is_so_in_the_simulation_too(active_programs: float) -> None:
    """Of the prompts' tokens three quarters are in the cache where few programs run at once, else next to none."""
    house = House()
    house.retune((("active_programs", active_programs),))
    await house.wave(2)
    assert reality(record(house.window.events()), FLEET, house.tuned) == pytest.approx(1.0, rel=0.1)


async def test_programs_that_came_after_a_change_are_judged_with_what_was_in_their_way() -> None:
    """Nothing changed in truth, but a backlog was there: without it the simulation would promise far too much."""
    house = House()
    await house.wave(1)
    recording = record(house.window.events())
    middle = recording.jobs[PROGRAMS // 2].submitted.at
    turned = Turn(middle, house.tuned)
    alone = reality(since(recording, middle), FLEET, house.tuned)
    assert reality(recording, FLEET, house.tuned, turned) == pytest.approx(1.0, rel=0.1)
    assert alone > Guard().tolerance


def test_a_modelled_engine_in_other_than_real_time_is_simulated_as_it_runs() -> None:
    quick = in_real_time(replace(ENGINE, options={"scale": 4.0}))
    slow, fast = profile_of(ENGINE), profile_of(quick)
    assert fast.step_s(100, 3, 1, 5000, 50.0) == pytest.approx(slow.step_s(100, 3, 1, 5000, 50.0) / 4)
    assert fast.kv_tokens == slow.kv_tokens
    assert in_real_time(ENGINE) is ENGINE
