"""The migration benchmark: who comes to which engine, and that its bound is one."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scheduling.migration import LOADS, kinds_of, make_load, places_of
from benchmarks.scheduling.migration_bound import least_mean_s
from benchmarks.scheduling.migration_lab import Ran

ENGINES = ("engine-0", "engine-1")

few_jobs = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 12)), min_size=1, max_size=6).map(
    lambda jobs: sorted(jobs, key=lambda job: job[0])
)


def ran(number: int, arrives_s: float, seconds: float, engine: str) -> Ran:
    return Ran(f"program {number}", arrives_s, seconds, (engine,), (seconds,), 100, 0)


def one_after_the_other(jobs: list[tuple[int, int]], engines: tuple[str, ...]) -> list[Ran]:
    """Jobs (arrival, work) on the engines given, each in the order they came."""
    free_s = dict.fromkeys(ENGINES, 0.0)
    done = []
    for number, ((at, work), engine) in enumerate(zip(jobs, engines, strict=True)):
        free_s[engine] = max(free_s[engine], at) + work
        done.append(ran(number, at, free_s[engine] - at, engine))
    return done


def mean_s(runs: list[Ran]) -> float:
    return sum(one.seconds for one in runs) / len(runs)


@given(few_jobs)
def test_no_way_to_share_the_engines_has_a_lower_mean(jobs: list[tuple[int, int]]) -> None:
    sticky = one_after_the_other(jobs, tuple(ENGINES[number % 2] for number in range(len(jobs))))
    bound_s = least_mean_s(sticky, [work for _, work in jobs], len(ENGINES))
    for engines in product(ENGINES, repeat=len(jobs)):
        assert bound_s <= mean_s(one_after_the_other(jobs, engines)) + 1e-9


def test_programs_of_one_engine_could_have_had_both() -> None:
    """Four take 12 s on one engine, so 3 each: on both they end after 1.5, 3, 4.5 and 6 s, and alone after 4 or 2."""
    sticky = [ran(number, 0.0, 12.0, "engine-0") for number in range(4)]
    assert least_mean_s(sticky, [4.0] * 4, 2) == pytest.approx((4 + 4 + 4.5 + 6) / 4)
    assert least_mean_s(sticky, [2.0] * 4, 2) == pytest.approx((2 + 2 + 3 + 4) / 4)


@pytest.mark.parametrize("load", LOADS)
def test_dealt_by_turns_each_engine_has_programs_of_one_kind(load: str) -> None:
    kinds = kinds_of(load, 1_000, 5)
    for number, (program, engine) in enumerate(places_of("sticky", make_load(load, 8, 1_000, 5, "a"), ENGINES)):
        assert (engine, (program.turns[0].new_tokens, len(program.turns))) == (ENGINES[number % 2], kinds[number % 2])


@pytest.mark.parametrize("load", LOADS)
def test_who_foresees_deals_each_engine_as_many_of_each_kind(load: str) -> None:
    places = places_of("foreseen", make_load(load, 8, 1_000, 5, "a"), ENGINES)
    dealt = [sorted(len(program.turns) for program, one in places if one == engine) for engine in ENGINES]
    assert dealt[0] == dealt[1]
