"""What the demo makes of a run's journal: spans, work made and saved, pictures of them; and which questions it asks."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from every_kind import every_kind
from hypothesis import given
from hypothesis import strategies as st
from live_runs import MODELS, run_live

from executor.engines.port import Engine, EngineSpec, Failure, FailureClass, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.journal import read_journal
from executor.store.memory import MemoryStore
from executor.store.writes import MADE, NO_WORK
from planner.ir.ids import EngineId, JobId
from workloads.demo.account import Account, Span, function_of, read_account
from workloads.demo.questions import asked_by_users
from workloads.demo.timeline import HEIGHT, WIDTH, lane, levels_of, rows_line, ticks
from workloads.text2sql.datasets import DATA_FOLDER, read_questions

E = EngineId("e")


@pytest.mark.parametrize(
    ("path", "function"),
    [
        ("link_schema", "link_schema"),
        ("draft_sql_4", "draft_sql"),
        ("repair_2#1/run_sql", "run_sql"),
        ("solve#3/1", "solve"),
        ("each[12]/check_2", "check"),
        ("route?1/answer", "answer"),
    ],
)
def test_a_path_tells_its_function(path: str, function: str) -> None:
    assert function_of(path) == function


def test_busy_is_when_at_least_one_call_was_inside() -> None:
    spans = [Span("f", E, 0.0, 2.0), Span("f", E, 1.0, 3.0), Span("f", E, 5.0, 6.0), Span("t", None, 0.0, 10.0)]
    account = Account(spans, {}, [4.0, 10.0])
    assert account.makespan_s == 10.0
    assert account.busy_share(E) == pytest.approx(0.4)
    assert account.busy_share(None) == 1.0
    assert Account([], {}, []).busy_share(E) == 0.0


async def test_work_made_and_saved_is_what_the_store_says(tmp_path: Path) -> None:
    rows = [{"question": f"What is {number % 5}?"} for number in range(15)]
    store, engines = MemoryStore(), fleet()
    await run_live(every_kind.plan, rows, every_kind.tools, engines=engines, store=store, journal=tmp_path / "journal")
    account = read_account(read_journal(tmp_path / "journal"), [engine.spec for engine in engines])
    made = sum((work.made for work in account.functions.values()), NO_WORK)
    saved = sum((work.saved for work in account.functions.values()), NO_WORK)
    usage = await store.usage(JobId("job"))
    assert {name: getattr(made, name) for name in MADE} == {name: usage[name] for name in MADE}
    assert (saved.calls, saved.tools) == (usage["saved_calls"], usage["saved_tools"])
    assert saved.prompt_tokens == usage["saved_prompt_tokens"]
    assert saved.calls > 0
    assert len(account.rows_ended_s) == len(rows)


async def test_a_call_that_failed_was_inside_but_made_nothing(tmp_path: Path) -> None:
    engines = fleet(failing=1)
    await run_live(
        every_kind.plan, [{"question": "Why?"}], every_kind.tools, engines=engines, journal=tmp_path / "journal"
    )
    account = read_account(read_journal(tmp_path / "journal"), [engine.spec for engine in engines])
    calls = [span for span in account.spans if span.engine is not None]
    assert len(calls) == sum(work.made.calls for work in account.functions.values()) + 1
    assert all(0.0 <= span.began_s <= span.ended_s <= account.makespan_s for span in account.spans)


async def test_modelled_seconds_pass_at_the_pace_of_the_engines(tmp_path: Path) -> None:
    engines = fleet()
    await run_live(
        every_kind.plan, [{"question": "Why?"}], every_kind.tools, engines=engines, journal=tmp_path / "journal"
    )
    specs = [engine.spec for engine in engines]
    real, modelled = (read_account(read_journal(tmp_path / "journal"), specs, pace=pace) for pace in (1.0, 8.0))
    assert modelled.makespan_s == pytest.approx(8 * real.makespan_s)


def fleet(failing: int = 0) -> list[Engine]:
    """Two engines; the first `failing` calls fail."""
    left = iter(range(failing))

    def fault(_: GenerateRequest) -> Failure | None:
        return Failure(FailureClass.ENGINE, "broken", "it broke") if next(left, None) is not None else None

    specs = [EngineSpec(EngineId(name), "scripted", MODELS, max_running=4) for name in ("a", "b")]
    return [Scripted(spec, Synthetic(), faults=fault) for spec in specs]


INSTANTS = st.floats(0, 100, allow_nan=False)


@given(st.lists(st.tuples(INSTANTS, INSTANTS), max_size=20), st.integers(1, 50))
def test_levels_hold_all_the_time_that_was_spent(ends: list[tuple[float, float]], bins: int) -> None:
    spans = [Span("f", E, min(pair), max(pair)) for pair in ends]
    levels = levels_of(spans, 100.0, bins)
    assert len(levels) == bins
    assert sum(levels) * 100.0 / bins == pytest.approx(sum(span.seconds for span in spans), abs=1e-6)
    assert all(0 <= level <= len(spans) + 1e-9 for level in levels)


def test_an_empty_run_has_pictures_too() -> None:
    assert rows_line(Account([], {}, [])) == ""
    assert ticks(0.0) == []
    assert lane("e", "", [], 0.0).most == 1


def test_a_lane_is_as_high_as_what_ran_and_the_axis_is_round() -> None:
    assert lane("e", "", [Span("f", E, 0.0, 10.0)] * 2, 10.0, most=4).shape.startswith(f"M0,{HEIGHT}V{HEIGHT / 2:.1f}H")
    assert rows_line(Account([], {}, [5.0, 10.0])) == f"M0,{HEIGHT}H{WIDTH / 2:.1f}V{HEIGHT / 2:.1f}H{WIDTH:.1f}V0.0"
    assert [tick.label for tick in ticks(16.0)] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s", "14 s", "16 s"]


def test_every_question_is_asked_once_and_popular_ones_again() -> None:
    questions = read_questions(DATA_FOLDER / "questions.jsonl")
    asked = asked_by_users(questions, Random(1))
    times = Counter(question.id for question in asked.rows)
    assert times.keys() == {question.id for question in questions}
    assert times.total() == len(questions) + asked.repeats == 400
    assert max(times.values()) > 5
    assert asked == asked_by_users(questions, Random(1))
    assert asked.rows != asked_by_users(questions, Random(2)).rows
    assert len(asked_by_users(questions, Random(1), quick=True).rows) == 64
