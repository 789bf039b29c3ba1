"""The ladder without an engine: the knee it finds, the rounds it runs, the figures and goals it tells."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.intervals import median_interval, ratio_interval
from benchmarks.kv.arms import ARMS, Flags, Serving, neighbours
from benchmarks.kv.climb import Ladder, Plan, plan_of
from benchmarks.kv.distributions import own_distributions
from benchmarks.kv.hints import Telling, Words, fields_for, notes_after
from benchmarks.kv.knee import find_knee
from benchmarks.kv.lab import CannotRun, EngineSize
from benchmarks.kv.ladder_report import Run, read_runs, table
from benchmarks.kv.programs import Load, Program, Turn
from benchmarks.kv.results import Outcome, ProgramResult, TurnResult, outcome_of
from benchmarks.kv.traces import Scale

PROGRAM = Program("p", (Turn(100, 10, "bash", "test", 2.5), Turn(50, 10)))


class QueueLab:
    """Every program takes a second and, at `per_s`, its share of a queue that is full at `full_per_s`."""

    simulated = True

    def __init__(self, full_per_s: float = 4.0, unable: bool = False) -> None:
        self.full_per_s = full_per_s
        self.unable = unable
        self.asked: list[tuple[Serving, Load]] = []

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> Sequence[ProgramResult]:
        if self.unable and serving.plugin is not None:
            raise CannotRun("not here")
        self.asked.append((serving, load))
        seconds = (1.0 + 2 * (load.per_s / self.full_per_s) ** 3) / (1.0 if serving.plugin is None else 2.0)
        return [_result(program, seconds) for program in load.programs]

    async def close(self) -> None:
        return None


def _result(program: Program, seconds: float) -> ProgramResult:
    tokens, turns = 0, []
    for number, turn in enumerate(program.turns):
        cached = tokens if number else 0
        tokens += turn.new_tokens
        turns.append(TurnResult(0.0, 0.1, 0.2, tokens, cached, turn.output_tokens))
        tokens += turn.output_tokens
    return ProgramResult(program.id, 1.0, 1.0 + seconds, tuple(turns))


def plan(**changes: object) -> Plan:
    given = Plan(
        traces=["swe"],
        loads=[1.25],
        closed=[],
        arms=["stock", "ours", "stock again"],
        rounds=2,
        programs=6,
        minutes=1.0,
        seed=1,
        flags=Flags(),
        knees={},
        size=EngineSize(),
        scale=Scale(),
    )
    return replace(given, **changes)  # type: ignore[arg-type]


async def test_the_knee_is_where_programs_take_twice_as_long_as_alone() -> None:
    lab = QueueLab(full_per_s=4.0)
    programs = tuple(replace(PROGRAM, id=str(number)) for number in range(9))
    knee = await find_knee(programs, lambda load: lab.run(Serving(), load, Telling(), ""), seed=1)
    assert knee.per_s == pytest.approx(4.0 * 0.5 ** (1 / 3), rel=0.02)
    assert knee.alone_s == pytest.approx(1.0)


async def test_a_knee_that_is_not_reached_is_said_to_be_above() -> None:
    lab = QueueLab(full_per_s=1e9)
    knee = await find_knee((PROGRAM,), lambda load: lab.run(Serving(), load, Telling(), ""), seed=1)
    assert knee.per_s == knee.tried[-1][0]
    assert "or above" in str(knee)


async def test_rounds_turn_the_order_of_arms_around_and_give_all_of_them_the_same_programs(tmp_path: Path) -> None:
    lab, out = QueueLab(), tmp_path / "runs.json"
    ladder = Ladder(plan(knees={"swe": 2.0}), own_distributions(), out)
    await ladder.climb(lab)
    assert [run.arm for run in ladder.runs] == ["stock", "ours", "stock again", "stock again", "ours", "stock"]
    loads = [load for _, load in lab.asked]
    assert loads[0] == loads[1] == loads[2] != loads[3] == loads[4] == loads[5]
    assert loads[0].per_s == 2.5
    assert read_runs([out]) == ladder.runs
    assert plan_of(out) == ladder.plan


async def test_an_arm_that_cannot_be_run_is_told_of_once_and_left_out() -> None:
    ladder = Ladder(plan(knees={"swe": 2.0}), own_distributions())
    await ladder.climb(QueueLab(unable=True))
    assert ladder.skipped == ["arm ours: not here"]
    assert {run.arm for run in ladder.runs} == {"stock", "stock again"}


async def test_what_does_not_fit_the_minutes_is_skipped_and_said_so() -> None:
    ladder = Ladder(plan(knees={"swe": 2.0}, minutes=0.0), own_distributions())
    await ladder.climb(QueueLab())
    assert ladder.runs == []
    assert ladder.skipped == [f"swe, 1.25 x knee, round {number}: out of time" for number in (1, 2)]


async def test_flags_are_swept_one_after_the_other_where_none_are_given() -> None:
    lab = QueueLab()
    await Ladder(plan(knees={"swe": 2.0}, flags=None, rounds=0), own_distributions()).climb(lab)
    swept = [serving.flags for serving, _ in lab.asked]
    assert swept[0] == Flags()
    assert {flags.max_running for flags in swept} == {8, 16, 32, 128}
    assert len(set(swept)) == len(swept)


async def test_the_table_tells_ratios_goals_and_what_a_simulation_was_wrong_by() -> None:
    ladder = Ladder(plan(knees={"swe": 2.0}), own_distributions())
    await ladder.climb(QueueLab())
    real = [replace(run, simulated=False, outcome=_more_prefill(run)) for run in ladder.runs]
    lines = list(table([*ladder.runs, *real]))
    assert any("ours" in line and "2.00 (2.00..2.00)" in line for line in lines)
    assert "swe, 1.25 x knee: stock / ours, mean: 2.00 (2.00..2.00), wanted 3.00: MISSED" in lines
    assert any("SIMULATED" in line for line in lines)
    assert "swe, 1.25 x knee, ours: -50.0% over 2 runs" in lines


def _more_prefill(run: Run) -> Outcome:
    return replace(run.outcome, prefilled_tokens=2 * run.outcome.prefilled_tokens)


def test_an_outcome_counts_what_was_cached_of_what_could_be() -> None:
    turns = (TurnResult(0, 0.5, 1, 100, 0, 10), TurnResult(3, 0.1, 1, 160, 88, 10))
    load = Load((PROGRAM,), (0.0,), per_s=1.0)
    outcome = outcome_of(load, [ProgramResult("p", 0.0, 4.0, turns), ProgramResult("q", 1.0, 9.0, (), "gone")])
    assert outcome.hit_share == 88 / 110
    assert (outcome.prefilled_tokens, outcome.least_prefill_tokens) == (172, 150)
    assert (outcome.mean_s, outcome.makespan_s, outcome.failed) == (4.0, 9.0, 1)


def test_a_client_tells_as_much_as_its_arm_says() -> None:
    assert fields_for(PROGRAM, 0, 1.5, Telling(), "s") == {}
    assert fields_for(PROGRAM, 0, 1.5, Telling(priority=True), "s") == {"priority": 1500}
    told = fields_for(PROGRAM, 0, 1.5, Telling(Words.TOOL), "s")["vllm_xargs"]
    assert 2.5 not in told.values()
    assert 2.5 in fields_for(PROGRAM, 0, 1.5, Telling(Words.TRUTH), "s")["vllm_xargs"].values()
    assert fields_for(replace(PROGRAM, hinted=False), 0, 1.5, Telling(Words.TRUTH), "s") == {}


def test_what_is_told_after_the_answer_is_not_told_with_it() -> None:
    after = Telling(Words.TOOL, after=True)
    assert "bash" not in fields_for(PROGRAM, 0, 0.0, after, "s")["vllm_xargs"].values()
    [note] = notes_after(PROGRAM, 0, after, "s")
    assert "bash" in note["body"].values()
    assert notes_after(PROGRAM, 0, Telling(Words.TOOL), "s") == ()


def test_arms_of_the_plugin_run_on_tuned_flags_and_stock_on_its_own() -> None:
    tuned = Flags(max_running=16)
    assert {name for name, arm in ARMS.items() if arm.serving(tuned, Flags()).flags == Flags()} == {
        "stock",
        "stock again",
    }
    assert [flags.max_running for flags in neighbours(tuned, "max_running")] == [8, 32]


def test_intervals_of_equal_ratios_are_a_point_and_hold_the_ratio_of_unequal_ones() -> None:
    assert ratio_interval([(4.0, 2.0)] * 5) == (2.0, 2.0, 2.0)
    ratio, low, high = ratio_interval([(4.0, 2.0), (3.0, 2.0), (5.0, 2.0), (2.0, 2.0), (6.0, 2.0)])
    assert 1.0 <= low < ratio == 2.0 < high <= 3.0
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 5.0)
