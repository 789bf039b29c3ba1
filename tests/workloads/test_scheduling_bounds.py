"""The bounds hold: for one machine against every order there is, for fleets against runs of the core."""

from itertools import combinations, permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scheduling.bounds import (
    bounds_of,
    least_mean_flow_s,
    least_p95_s,
    most_on_time,
    p95,
    prices_of,
    saturation_per_s,
)
from benchmarks.scheduling.fleets import CALIBRATIONS, alone_s, fleet_named, profiles_of
from benchmarks.scheduling.programs import Asked
from benchmarks.scheduling.replay import replay
from benchmarks.scheduling.reuse import Reuse
from benchmarks.scheduling.traces import Arriving, poisson, traces_in
from executor.core.scheduler import Scheduler

few_jobs = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), min_size=1, max_size=5)


def ends_in_order(jobs: list[tuple[int, int]]) -> list[int]:
    """Of jobs (arrival, work), one after the other on one machine."""
    now, ends = 0, []
    for at, work in jobs:
        now = max(now, at) + work
        ends.append(now)
    return ends


@given(jobs=few_jobs)
def test_no_order_has_a_lower_mean_flow_time(jobs: list[tuple[int, int]]) -> None:
    jobs.sort()
    at, work = (np.array(column, float) for column in zip(*jobs, strict=True))
    best = min(
        sum(end - at for end, (at, _) in zip(ends_in_order(list(order)), order, strict=True))
        for order in permutations(jobs)
    )
    assert least_mean_flow_s(at, work) <= best / len(jobs) + 1e-9


def test_the_shortest_interrupts() -> None:
    assert least_mean_flow_s(np.array([0.0, 1.0]), np.array([10.0, 1.0])) == pytest.approx((11 + 1) / 2)


@given(jobs=few_jobs, within=st.integers(1, 40))
def test_most_on_time_is_that_of_the_best_choice(jobs: list[tuple[int, int]], within: int) -> None:
    jobs.sort()
    at, work = (np.array(column, float) for column in zip(*jobs, strict=True))

    def fits(chosen: tuple[tuple[int, int], ...]) -> bool:
        return all(end <= at + within for end, (at, _) in zip(ends_in_order(list(chosen)), chosen, strict=True))

    best = max(size for size in range(len(jobs) + 1) for chosen in combinations(jobs, size) if fits(chosen))
    assert most_on_time(at, work, np.zeros(len(jobs)), within) == best


def test_a_request_whose_path_is_too_long_is_not_on_time_and_95_percent_may_leave_some_out() -> None:
    at, work, path = np.arange(40.0), np.full(40, 0.1), np.ones(40)
    path[7] = path[8] = 50.0
    assert most_on_time(at, work, path, 10.0) == 38
    assert least_p95_s(at, work, path) == pytest.approx(1.0, rel=0.01)


def test_p95_is_what_95_percent_stay_within() -> None:
    assert p95([float(n) for n in range(100, 0, -1)]) == 95.0
    assert p95([3.0]) == 3.0


@pytest.mark.parametrize("reuse", list(Reuse))
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("load", [0.6, 4.0])
def test_no_run_is_better_than_its_bounds(reuse: Reuse, calibration: str, load: float) -> None:
    fleet = fleet_named("uneven", calibration)
    requests = traces_in(None)["own revised"](30, Random(5))
    arriving = poisson(requests, load * saturation_per_s(requests, fleet, reuse), Random(6))
    bounds = bounds_of(arriving, fleet, reuse, in_time_s=150.0)
    ended = replay(arriving, fleet, Scheduler(fleet), Asked(150.0, reuse)).ended
    assert bounds.mean_s <= sum(one.took_s for one in ended) / len(ended)
    assert bounds.p95_s <= p95([one.took_s for one in ended])
    assert bounds.makespan_s <= max(one.ended_s for one in ended) - arriving[0].at
    assert bounds.good >= sum(not one.missed for one in ended) / len(ended)


@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_a_call_alone_takes_more_than_the_share_of_the_engine_that_it_must(seed: int) -> None:
    """At its prices, an engine that did nothing else would still be longer at it."""
    fleet = fleet_named("hetero-1")
    (request,) = traces_in(None)["own natural"](1, Random(seed))
    prices = prices_of([request], fleet)
    alone = sum(max(alone_s(profile, call) for profile in profiles_of(fleet)) for call in request.calls)
    assert 0 < prices.work_s(request) < alone


@pytest.mark.parametrize("engine", [0, 2])
def test_saturation_is_about_what_an_engine_gets_done(engine: int) -> None:
    fleet = fleet_named("hetero-1")[engine : engine + 1]
    requests = traces_in(None)["own natural"](40, Random(1))
    at_once = [Arriving(0.0, request) for request in requests]
    done = replay(at_once, fleet, Scheduler(fleet, rule="late binding"), Asked(150.0))
    took_s = max(one.ended_s for one in done.ended)
    assert took_s == pytest.approx(len(requests) / saturation_per_s(requests, fleet, Reuse.NONE), rel=0.2)


def test_an_engine_more_raises_saturation_and_so_does_reuse() -> None:
    fleet = fleet_named("hetero-1")
    requests = traces_in(None)["own natural"](100, Random(0))
    rates = [saturation_per_s(requests, engines, Reuse.NONE) for engines in (fleet[:3], fleet)]
    shared = [saturation_per_s(requests, fleet, reuse) for reuse in Reuse]
    assert rates == sorted(rates)
    assert shared == sorted(shared)
