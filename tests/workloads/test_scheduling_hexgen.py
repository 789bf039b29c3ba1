"""The benchmark itself: every rule answers every request, goals are judged by ratios, goodput is found by halving."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.scheduling.arms import BEST_CODED, HALO, ORACLE, ROUND_ROBIN, WITHOUT_REUSE, Arm, arms_for
from benchmarks.scheduling.bounds import Bounds
from benchmarks.scheduling.experiment import Cell, Run, Wanted, run_all, run_one
from benchmarks.scheduling.goodput import LEAST, MOST, STEP, goodput_bound, goodput_of
from benchmarks.scheduling.report import HEXGEN, STEADY, goals_table, judged, table, with_best
from benchmarks.scheduling.reuse import Reuse
from executor.policy.rules import RULES

CELL = Cell("hetero-1", "cost model", "own natural", Reuse.NONE, 4.0, 8)
BOUNDS, IN_TURNS = Bounds(10.0, 20.0, 30.0), Bounds(15.0, 50.0, 60.0, good=0.9)
ARMS = arms_for(list(RULES), (0.0, 0.4), Reuse.REQUEST)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_rule_answers_every_request_within_its_bounds(arm: Arm) -> None:
    run = run_one(Wanted(replace(CELL, reuse=Reuse.REQUEST), 1, arm, None))
    assert run.arm == arm.name
    assert run.bounds.mean_s <= run.mean_s
    assert run.bounds.p95_s <= run.p95_s
    assert (run.cached > 0) is arm.shares
    assert 0 <= run.good <= 1


def test_arms_are_named_apart_and_round_robin_without_reuse_stands_beside_reuse_only() -> None:
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert WITHOUT_REUSE in names
    assert WITHOUT_REUSE not in [arm.name for arm in arms_for(list(RULES), (0.0,), Reuse.NONE)]


def test_processes_change_nothing() -> None:
    wanted = [Wanted(CELL, seed, Arm(ROUND_ROBIN), None) for seed in (0, 1)]
    assert list(run_all(wanted, 1)) == list(run_all(wanted, 2))


def made_up(arm: str, p95_s: float, seed: int = 0, cell: Cell = CELL, good: float = 1.0) -> Run:
    return Run(cell, seed, arm, 0.5, p95_s / 2, p95_s, 900.0, p95_s / 70, good, 0.0, BOUNDS, IN_TURNS)


def test_hexgen_is_the_best_of_its_sweep_over_all_seeds() -> None:
    runs = [made_up(HALO, 100.0, seed) for seed in (0, 1)]
    runs += [made_up("hexgen alpha=0", seconds, seed) for seed, seconds in enumerate((100.0, 400.0))]
    runs += [made_up("hexgen alpha=0.4", seconds, seed) for seed, seconds in enumerate((150.0, 150.0))]
    runs += [made_up("hexgen as written alpha=0", 600.0, seed) for seed in (0, 1)]
    best = with_best(runs)
    assert best[CELL, BEST_CODED] == best[CELL, HEXGEN] == runs[4:6]


def test_goals_are_judged_in_the_cells_they_are_set_for() -> None:
    light, shared = replace(CELL, load=0.3), replace(CELL, load=0.85, reuse=Reuse.REQUEST)
    runs = [made_up(arm, seconds) for arm, seconds in ((HALO, 100.0), (ROUND_ROBIN, 250.0), (ORACLE, 70.0))]
    runs += [made_up(arm, 50.0, cell=light) for arm in (HALO, ROUND_ROBIN, ORACLE)]
    runs += [made_up(HALO, 100.0, cell=shared), made_up(WITHOUT_REUSE, 300.0, cell=shared)]
    found = {(one.cell, one.goal.base): (one.ratio, one.met) for one in judged(runs)}
    assert found == {
        (CELL, ROUND_ROBIN): (2.5, True),
        (CELL, ORACLE): (0.7, False),
        (shared, WITHOUT_REUSE): (3.0, False),
    }
    assert sum("MISSED" in line for line in goals_table(judged(runs))) == 2
    assert any(line.startswith("bound") for line in table(runs))


def test_beside_a_goal_stands_what_could_be_reached() -> None:
    runs = [made_up(arm, seconds) for arm, seconds in ((HALO, 100.0), (ROUND_ROBIN, 250.0), (ORACLE, 125.0))]
    (scale,) = (one for one in judged(runs) if one.goal.base == ROUND_ROBIN)
    assert (scale.oracle, scale.in_turns, scale.bound) == pytest.approx((2.0, 5.0, 12.5))
    assert "2.00   5.00  12.50" in "".join(goals_table([scale]))


def test_the_share_in_time_is_held_against_the_best_of_hexgens_by_that() -> None:
    steady = replace(CELL, load=STEADY)
    runs = [made_up(HALO, 100.0, cell=steady, good=0.75), made_up(ORACLE, 100.0, cell=steady, good=0.8)]
    runs += [made_up("hexgen alpha=0", 300.0, cell=steady, good=0.5)]
    runs += [made_up("hexgen alpha=0.4", 200.0, cell=steady, good=0.4)]
    (share,) = (one for one in judged(runs) if one.goal.figure == "good")
    assert (share.ratio, share.oracle, share.in_turns, share.bound) == pytest.approx((1.5, 1.6, 1.8, 2.0))
    assert share.met


def test_nobody_keeps_up_with_more_than_the_bound() -> None:
    bound = goodput_bound(CELL, (0,), None)
    assert LEAST < bound.load <= MOST
    kept = goodput_of(CELL, Arm(HALO), (0,), None, lambda wanted: list(run_all(wanted, 1)))
    assert kept.load <= bound.load


@pytest.mark.parametrize("knee", [0.45, 0.8, MOST + 1, LEAST / 2])
def test_goodput_is_the_highest_load_that_is_kept_up_with(knee: float) -> None:
    def run(wanted: Sequence[Wanted]) -> list[Run]:
        return [made_up(HALO, 1.0, one.seed, one.cell, good=0.99 if one.cell.load <= knee else 0.9) for one in wanted]

    found = goodput_of(CELL, Arm(HALO), (0, 1), None, run)
    assert found.load == pytest.approx(min(MOST, knee) if knee >= LEAST else 0.0, abs=STEP)
