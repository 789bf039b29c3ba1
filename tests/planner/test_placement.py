"""Placing operators on engines: what every schedule keeps, and what lies between bound, best and found."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement.baselines import BASELINES
from planner.placement.bound import lower_bound
from planner.placement.dispatch import dispatched
from planner.placement.exact import exact
from planner.placement.phases import phases_of
from planner.placement.pinned import PinnedSearch
from planner.placement.problem import Engine, Model, Operator, Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Schedule
from planner.placement.search import Budget, drained
from planner.placement.solve import solved
from planner.placement.start import agenda_of, by_critical_path

CLOSE = 1e-6
MODELS = (Model("small", 10.0), Model("large", 40.0))


@st.composite
def problems(draw: st.DrawFn, operators: int = 6, engines: int = 4, batches: int = 5) -> Problem:
    """Two models, of which each engine has room for the large one, for the small one, or for both."""
    rooms = [*draw(st.lists(st.sampled_from([10.0, 40.0, 50.0]), max_size=engines - 1)), 40.0]
    speeds = draw(st.lists(st.sampled_from([1.0, 2.0, 3.5]), min_size=len(rooms), max_size=len(rooms)))
    fleet = [Engine(f"e{i}", room, (0.5, 2.0 if room >= 40 else inf)) for i, room in enumerate(rooms)]
    pool = Engine("tool:db", 0.0, (inf, inf))
    made: list[Operator] = []
    for index in range(draw(st.integers(1, operators))):
        parents = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        model = draw(st.sampled_from([0, 0, 1, 1, None]))
        work = draw(st.sampled_from([0.3, 1.0, 4.0, 9.0]))
        on_engines = [
            inf if model is None or room < MODELS[model].weight_bytes else work * s
            for room, s in zip(rooms, speeds, strict=True)
        ]
        lag = draw(st.sampled_from([0.0, 0.2, 1.0]))
        seconds = (*on_engines, inf if model is not None else work)
        made.append(Operator(f"o{index}", model, seconds, (lag,) * len(seconds), tuple(sorted(parents))))
    return Problem(MODELS, (*fleet, pool), tuple(made), draw(st.integers(1, batches)))


def check(problem: Problem, schedule: Schedule) -> None:
    """Everything once, on engines that can; one thing at a time; parents first; only with the model there."""
    ended: dict[tuple[int, int], float] = {}
    for run in schedule.runs:
        operator = problem.operators[run.operator]
        assert problem.can_run(run.operator, run.engine)
        assert run.end_s - run.start_s == pytest.approx(operator.work_s[run.engine] / problem.batches)
        assert (run.operator, run.batch) not in ended
        ended[run.operator, run.batch] = run.end_s + operator.lag_s[run.engine]
    assert len(ended) == len(problem.operators) * problem.batches
    for run in schedule.runs:
        for parent in problem.operators[run.operator].parents:
            assert ended[parent, run.batch] <= run.start_s + CLOSE
    assert schedule.makespan_s == pytest.approx(max(ended.values()))
    for engine in range(len(problem.engines)):
        check_engine(problem, schedule, engine)


def check_engine(problem: Problem, schedule: Schedule, engine: int) -> None:
    loads = [(load.start_s, load.end_s, 0, load) for load in schedule.loads if load.engine == engine]
    runs = [(run.start_s, run.end_s, 1, run) for run in schedule.runs if run.engine == engine]
    resident, free = set(problem.engines[engine].resident), 0.0
    for start, end, _, what in sorted(loads + runs, key=lambda item: item[:3]):
        assert start >= free - CLOSE
        free = end
        if hasattr(what, "evicts"):
            resident = resident - set(what.evicts) | {what.model}
            assert sum(problem.models[m].weight_bytes for m in resident) <= problem.engines[engine].room_bytes + CLOSE
        else:
            model = problem.operators[what.operator].model
            assert model is None or model in resident


@settings(max_examples=60)
@given(problems())
def test_every_schedule_keeps_the_rules_and_the_bound(problem: Problem) -> None:
    shop, bound = Shop(problem), lower_bound(problem)
    phases = phases_of(problem, bound.seconds, 2)
    orders = [
        by_critical_path(problem),
        by_critical_path(problem, row_wise=True),
        dispatched(shop, agenda_of(shop, phases)),
    ]
    for order in orders:
        schedule = shop.replay(order)
        check(problem, schedule)
        assert bound.seconds <= schedule.makespan_s + CLOSE
    for shares in (bound.shares, [[share for _, _, share in row] for row in phases.shares]):
        assert all(sum(row) == pytest.approx(1) for row in shares)


@settings(max_examples=25)
@given(problems(), st.integers(0, 5))
def test_search_keeps_the_rules_and_the_same_seed_gives_the_same_schedule(problem: Problem, seed: int) -> None:
    once, again = (solved(problem, Budget(rounds=25), seed) for _ in range(2))
    check(problem, once.schedule)
    assert once == again
    assert once.bound_s <= once.schedule.makespan_s + CLOSE


@settings(max_examples=40)
@given(problems(operators=3, engines=2, batches=2))
def test_bound_below_exact_below_found_and_found_is_near_exact(problem: Problem) -> None:
    found = solved(problem, Budget(rounds=150))
    best = exact(problem, found.schedule, most_nodes=20_000)
    if best is None:
        return
    check(problem, best)
    assert found.bound_s <= best.makespan_s + CLOSE
    assert best.makespan_s <= found.schedule.makespan_s <= 1.1 * best.makespan_s


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 5))
def test_no_simple_rule_does_better_however_small_the_budget(problem: Problem, seed: int) -> None:
    found = solved(problem, Budget(rounds=0), seed)
    for name in BASELINES.keys() - {"epochs, m=2", "epochs, fine"}:
        assert found.schedule.makespan_s <= BASELINES[name](problem, seed).makespan_s + CLOSE, name


@settings(max_examples=20, deadline=None)
@given(problems(), st.integers(0, 5))
def test_nor_do_epochs_in_our_own_micro_batches_where_there_is_time(problem: Problem, seed: int) -> None:
    found = solved(problem, Budget(rounds=25), seed)
    assert found.schedule.makespan_s <= BASELINES["epochs, fine"](problem, seed).makespan_s + CLOSE


@settings(max_examples=30, deadline=None)
@given(problems(), st.integers(0, 5))
def test_operators_that_are_not_split_keep_the_rules_and_each_on_one_engine(problem: Problem, seed: int) -> None:
    shop, search = Shop(problem), PinnedSearch(problem, seed)
    search.improve(20, late=lambda: False)
    schedule = shop.replay(dispatched(shop, search.agenda()))
    check(problem, schedule)
    assert len({(run.operator, run.engine) for run in schedule.runs}) == len(problem.operators)


@settings(max_examples=30, deadline=None)
@given(problems(), st.floats(0.5, 1.5))
def test_a_replay_within_some_time_is_the_same_or_nothing(problem: Problem, share: float) -> None:
    shop, order = Shop(problem), by_critical_path(problem)
    whole = shop.replay(order)
    most_s = share * whole.makespan_s
    assert shop.replay_within(order, most_s) == (whole if whole.makespan_s <= most_s else None)


@settings(max_examples=30, deadline=None)
@given(problems())
def test_choosing_the_engines_of_the_end_anew_keeps_the_rules_and_never_ends_later(problem: Problem) -> None:
    shop = Shop(problem)
    row_by_row = shop.replay(by_critical_path(problem, row_wise=True))
    found = drained(shop, row_by_row, (0.9, 0.3), late=lambda: False)
    check(problem, found)
    assert found.makespan_s <= row_by_row.makespan_s
    assert drained(shop, row_by_row, (0.9, 0.3), late=lambda: True) == row_by_row


@settings(max_examples=25, deadline=None)
@given(problems(operators=3, engines=2, batches=2))
def test_small_jobs_are_solved_to_the_end(problem: Problem) -> None:
    found = solved(problem, Budget(rounds=0))
    best = exact(problem, found.schedule, most_nodes=1_000)
    assert best is None or found.schedule.makespan_s == pytest.approx(best.makespan_s)


def two_in_a_row(engines: int, models: tuple[int, int] = (0, 0), resident: tuple[int, ...] = (0, 1)) -> Problem:
    """Eight seconds of work each, in four micro-batches, no lags; a load takes half a second or two."""
    fleet = tuple(Engine(f"e{i}", 40.0 if resident == () else 50.0, (0.5, 2.0), resident) for i in range(engines))
    first, second = (
        Operator(name, m, (8.0,) * engines, (0.0,) * engines) for name, m in zip("ab", models, strict=True)
    )
    return Problem(MODELS, fleet, (first, Operator("b", second.model, second.work_s, second.lag_s, (0,))), 4)


def test_a_child_follows_its_parent_micro_batch_by_micro_batch() -> None:
    order = [(0, batch, 0) for batch in range(4)] + [(1, batch, 1) for batch in range(4)]
    schedule = Shop(two_in_a_row(2)).replay(order)
    assert [run.start_s for run in schedule.runs] == [0, 2, 4, 6, 2, 4, 6, 8]
    assert schedule.makespan_s == 10


def test_a_model_is_loaded_while_the_engine_waits_for_work() -> None:
    order = [(0, batch, 0) for batch in range(4)] + [(1, batch, 1) for batch in range(4)]
    schedule = Shop(two_in_a_row(2, models=(0, 1), resident=())).replay(order)
    assert [(load.engine, load.model, load.start_s, load.end_s) for load in schedule.loads] == [
        (0, 0, 0, 0.5),
        (1, 1, 0, 2),
    ]
    assert schedule.makespan_s == 0.5 + 8 + 2


def test_one_engine_without_room_for_both_evicts_the_first_model_once() -> None:
    found = solved(two_in_a_row(1, models=(0, 1), resident=()), Budget(rounds=50))
    assert [(load.model, load.evicts) for load in found.schedule.loads] == [(0, ()), (1, (0,))]
    assert found.schedule.makespan_s == pytest.approx(0.5 + 8 + 2 + 8)
    assert found.gap == pytest.approx(0, abs=CLOSE)


def test_work_that_nobody_waits_for_is_split_evenly() -> None:
    one = Problem(MODELS, two_in_a_row(2).engines, two_in_a_row(2).operators[:1], 4)
    found = solved(one, Budget(rounds=10))
    assert found.schedule.makespan_s == pytest.approx(4)
    assert found.gap == pytest.approx(0, abs=CLOSE)


@pytest.mark.parametrize(("lag", "makespan"), [(3.0, 16), (9.0, 19)])
def test_an_engine_is_free_during_a_lag_and_who_reads_the_answers_is_not(lag: float, makespan: float) -> None:
    base = two_in_a_row(1)
    problem = Problem(MODELS, base.engines, (Operator("a", 0, (8.0,), (lag,)), base.operators[1]), 4)
    schedule = Shop(problem).replay(by_critical_path(problem))
    check(problem, schedule)
    assert schedule.makespan_s == makespan
