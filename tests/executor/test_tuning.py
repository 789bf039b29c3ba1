"""Settings are found by running recorded traffic again, and taken only where they are better by more than the noise."""

from math import isclose
from random import Random

import pytest

import halo
from executor.core.knobs import Tuned, knobs_of, setting_of, with_setting
from executor.core.limits import Limits
from executor.drivers.shadow import Effort, recorded_cost, simulated_cost, tune
from executor.drivers.simulated import Arrival, Simulation
from executor.drivers.world import ToolsRun
from executor.engines.port import EngineSpec
from executor.engines.synthetic import Synthetic
from executor.policy.rules import RULES
from executor.policy.tuning import (
    Guard,
    Knob,
    bounded,
    changed,
    compare,
    cost_of,
    is_better,
    is_worse_than_told,
    joined,
    student,
    turned,
)
from executor.recording import Recording, record
from executor.tools import ToolRunner
from planner.ir.ids import EngineId, JobId
from planner.table import Table

FLEET = [EngineSpec(EngineId("a"), "modelled", ("small",), gpu="A100", max_running=16)]
SMALL = Effort(turns=1, samples=2, last_samples=4)


@halo.llm(model="small", max_tokens=32)
def ask(text: str) -> str:
    return f"Say something about {text}"


@halo.workflow
def two_calls(text: str) -> str:
    return ask(ask(text))


async def traffic(limits: Limits, programs: int = 60) -> Recording:
    """Runs of one row each, as they were under these bounds."""
    arrivals = [
        Arrival(
            0.05 * number,
            JobId(f"run-{number}"),
            two_calls.plan,
            Table.from_rows([{"text": f"{number}"}], two_calls.plan.inputs),
        )
        for number in range(programs)
    ]
    simulation = Simulation(FLEET, ToolsRun(Synthetic(), ToolRunner({}), lambda spec: 0.0), limits)
    await simulation.run(arrivals)
    return record(simulation.events)


# What decides


def test_a_knob_is_turned_to_every_other_step():
    current = changed((), {"fill": 0.9, "programs": 6.0})
    assert turned(current, Knob("fill", (0.8, 0.9, 1.0))) == [
        (("fill", 0.8), ("programs", 6.0)),
        (("fill", 1.0), ("programs", 6.0)),
    ]


def test_a_bound_that_somebody_set_is_the_last_step():
    assert bounded(Knob("programs", (4.0, 8.0, 16.0)), (("programs", 12.0),)).ladder == (4.0, 8.0, 12.0)
    assert bounded(Knob("fill", (0.8, 1.0)), (("programs", 12.0),)).ladder == (0.8, 1.0)


def test_steps_that_helped_are_taken_together_the_better_one_of_a_knob():
    current = changed((), {"fill": 0.9, "programs": 6.0})
    better = [changed(current, {"fill": 1.0}), changed(current, {"fill": 0.8}), changed(current, {"programs": 8.0})]
    assert joined(current, better) == (("fill", 1.0), ("programs", 8.0))


def test_what_samples_have_in_common_falls_out_of_the_comparison():
    harder = [1.0, 5.0, 20.0, 3.0]
    found = compare(harder, [0.9 * cost for cost in harder])
    assert found.ratio == pytest.approx(0.9)
    assert (found.low, found.high) == (pytest.approx(0.9), pytest.approx(0.9))
    assert is_better(found, Guard())


def test_a_gain_within_the_noise_or_too_small_is_none():
    assert not is_better(compare([1.0, 1.0, 1.0], [0.7, 1.2, 0.8]), Guard())
    assert not is_better(compare([1.0, 1.0], [0.99, 0.99]), Guard(least_gain=0.02))


def test_a_setting_that_changes_nothing_is_hardly_ever_taken():
    """At 95 %, one in forty on the lower side; the least gain makes it fewer."""
    draw = Random(1)
    taken = 0
    for _ in range(400):
        pairs = [(draw.lognormvariate(0, 1), draw.lognormvariate(0, 0.1)) for _ in range(6)]
        taken += is_better(compare([one for one, _ in pairs], [one * other for one, other in pairs]), Guard())
    assert taken <= 16


def test_programs_that_miss_their_deadlines_cost_more():
    assert cost_of([2.0, 4.0], missed=0) == 3.0
    assert cost_of([2.0, 4.0], missed=1) == 9.0


def test_a_promise_that_reality_does_not_keep_is_noticed():
    assert not is_worse_than_told(1.5, 1.6, Guard(tolerance=1.25))
    assert is_worse_than_told(1.5, 2.0, Guard(tolerance=1.25))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (30, 2.042)])
def test_students_quantiles_are_those_of_the_tables(freedom: int, quantile: float):
    assert isclose(student(0.95, freedom), quantile, rel_tol=0.01)


# What can be turned


def test_every_knob_can_be_read_and_turned_and_those_without_a_place_are_left_out():
    tuned = Tuned(Limits(), RULES["halo"])
    for knob in knobs_of(tuned):
        for step in knob.ladder:
            assert dict(setting_of(with_setting(tuned, {knob.name: step})))[knob.name] == step
    bare = Tuned(Limits(admission=None), RULES["round robin"])
    assert [knob.name for knob in knobs_of(bare)] == ["active_programs"]
    assert with_setting(bare, {"kv_fill": 0.5, "unknown": 1.0}) == bare


# The shadow run


async def test_bounds_that_are_too_tight_for_the_traffic_are_found_and_widened():
    recording = await traffic(Limits(active_programs=2))
    tuned = Tuned(Limits(active_programs=2), RULES["halo"])
    found = tune(recording, FLEET, tuned, effort=SMALL)

    assert found.better, found.why
    assert dict(found.chosen)["active_programs"] > 2
    assert found.last is not None
    assert found.last.high < 1.0
    assert found == tune(recording, FLEET, tuned, effort=SMALL)


async def test_a_bound_that_somebody_set_is_kept():
    tight = Tuned(Limits(active_programs=2), RULES["halo"])
    guard = Guard(most=(("active_programs", 2.0),))
    found = tune(await traffic(Limits(active_programs=2)), FLEET, tight, guard, effort=SMALL)
    assert dict(found.chosen)["active_programs"] == 2


async def test_bounds_that_fit_are_left_alone():
    found = tune(await traffic(Limits()), FLEET, Tuned(Limits(), RULES["halo"]), effort=SMALL)
    assert not found.better


async def test_of_too_little_traffic_nothing_is_concluded():
    found = tune(await traffic(Limits(), programs=12), FLEET, Tuned(Limits(), RULES["halo"]), effort=SMALL)
    assert (found.better, found.last) == (False, None)
    assert "too little traffic" in found.why


async def test_the_simulation_costs_what_the_window_did_where_it_was_one():
    recording = await traffic(Limits())
    assert simulated_cost(recording, FLEET, Tuned(Limits(), RULES["halo"])) == pytest.approx(
        recorded_cost(recording), rel=0.15
    )
