"""Engine time and money of a job, for a fleet."""

import pytest
from example_plans import text_to_sql
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_strategies import plans, rows_for

from planner.explain import explain
from planner.explanation import Explanation
from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table
from planner.timing import PricedEngine, with_times

A100, A10 = (PricedEngine(gpu, {}, usd) for gpu, usd in (("A100", 1.8), ("A10", 0.75)))


def explained(plan: Plan, rows: list[dict[str, Json]]) -> Explanation:
    part = JobPart(plan, Table.from_rows(rows, plan.inputs))
    return explain([part], optimize([part]))


def questions(rows: int) -> Explanation:
    return explained(text_to_sql(), [{"db": "shop", "question": f"question {row}"} for row in range(rows)])


@st.composite
def jobs(draw: st.DrawFn) -> Explanation:
    plan = draw(plans())
    return explained(plan, draw(rows_for(plan)))


@settings(max_examples=50)
@given(jobs())
def test_ranges_are_ranges_and_another_engine_only_widens_them(job: Explanation) -> None:
    one, both = with_times(job, [A100]), with_times(job, [A100, A10])
    for narrow, wide in zip(one.stages, both.stages, strict=True):
        if narrow.engine_seconds and wide.engine_seconds:
            assert 0 <= wide.engine_seconds.low <= narrow.engine_seconds.low <= narrow.engine_seconds.high
            assert narrow.engine_seconds.high <= wide.engine_seconds.high
        assert (narrow.engine_seconds is not None) == narrow.asks_model


def test_money_is_engine_time_at_the_engines_price() -> None:
    told = with_times(questions(10), [A100])
    assert told.engine_seconds.low > 0
    assert told.usd.low == pytest.approx(told.engine_seconds.low * 1.8 / 3600)
    assert told.usd.high == pytest.approx(told.engine_seconds.high * 1.8 / 3600)


def test_an_engines_own_price_comes_first_and_gpus_are_counted_without_one() -> None:
    large = {"model": "Llama-3-70B"}
    assert PricedEngine("H100", large, 3.0).usd_per_s(4) == 12 / 3600
    assert PricedEngine("H100", large, 3.0, usd_per_hour=10).usd_per_s(4) == 10 / 3600


def test_twice_the_rows_take_up_to_twice_the_time() -> None:
    """Up to: what they share is read once, and small jobs leave batches half full."""
    small, large = (with_times(questions(rows), [A100]).engine_seconds for rows in (100, 200))
    assert 1.5 * small.high < large.high <= 2.01 * small.high


def test_a_model_nobody_serves_has_no_time() -> None:
    told = with_times(questions(3), [PricedEngine("A100", {"another": "another"}, 1.8)])
    assert all(stage.engine_seconds is None for stage in told.stages)
    assert told.engines == ()


def test_the_engines_and_what_is_assumed_of_them_are_told() -> None:
    text = with_times(questions(3), [PricedEngine("H900", {}, 1.0)], "the reference").to_text()
    assert "engine s" in text
    assert "on A100-80 (taken for 'H900') with Llama-3-8B, calibrated; the reference" in text
    assert "answers are an eighth to all of max_tokens long" in text


def test_without_a_fleet_nothing_is_said_of_time() -> None:
    assert "engine s" not in questions(3).to_text()
    assert questions(3).to_json()["engine_seconds"] is None
