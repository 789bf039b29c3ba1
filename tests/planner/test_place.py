"""From an explained job to where its stages run."""

from dataclasses import replace

import pytest
from example_plans import text_to_sql

from planner.explain import explain
from planner.explanation import Explanation
from planner.job import JobPart
from planner.optimize import optimize
from planner.placement.baselines import BASELINES
from planner.placement.of_job import problem_of
from planner.placement.place import place
from planner.table import Table
from planner.timing import PricedEngine

MODEL = "Llama-3-8B"


def questions(rows: int) -> Explanation:
    plan = text_to_sql()
    part = JobPart(
        plan, Table.from_rows([{"db": "shop", "question": f"question {i}"} for i in range(rows)], plan.inputs)
    )
    return explain([part], optimize([part]))


def engine(gpu: str, *models: str) -> PricedEngine:
    return PricedEngine(gpu, dict.fromkeys(models, MODEL), 1.0)


def test_all_of_a_stage_is_placed_and_named_as_in_the_explanation() -> None:
    explanation = questions(200)
    placement = place(explanation, [engine("H100"), engine("A10")], ["fast", "slow"])
    forecasts = {stage.path: stage for stage in explanation.stages}
    for stage in placement.stages:
        assert sum(share.share for share in stage.shares) == pytest.approx(1)
        assert stage.does == forecasts[stage.path].does
        assert {share.engine for share in stage.shares} <= {"fast", "slow", f"tool:{stage.does}"}
        assert stage.starts_s < stage.ends_s <= placement.makespan_s + 1e-6
        assert stage.reason
    assert {stage.path for stage in placement.stages} == {
        path for path, stage in forecasts.items() if stage.kind in {"generate", "tool"} and stage.distinct.high
    }


def test_no_schedule_is_quicker_than_the_bound_and_engines_do_one_thing_at_a_time() -> None:
    placement = place(questions(200), [engine("H100"), engine("A10")])
    assert 0 < placement.bound_s <= placement.makespan_s
    assert placement.gap == pytest.approx(placement.makespan_s / placement.bound_s - 1)
    for use in placement.engines:
        assert use.busy_s + use.loading_s <= placement.makespan_s + 1e-6


def test_the_same_job_is_placed_the_same_way_each_time() -> None:
    explanation, fleet = questions(100), [engine("H100"), engine("L40S"), engine("A10")]
    assert place(explanation, fleet) == place(explanation, fleet)


def test_twice_the_engines_take_less_and_more_than_half_the_time() -> None:
    one, two = (place(questions(400), [engine("A100")] * count).makespan_s for count in (1, 2))
    assert 0.5 * one < two < 0.75 * one


def test_a_model_that_is_served_from_the_start_is_not_loaded() -> None:
    explanation = questions(50)
    models = {stage.does for stage in explanation.stages if stage.asks_model}
    assert place(explanation, [engine("A100", *models)]).switches == ()
    assert {switch.model for switch in place(explanation, [engine("A100")]).switches} == models


def test_an_adapter_is_loaded_once_on_each_engine_beside_its_model() -> None:
    explanation = questions(50)
    base, *adapters = dict.fromkeys(stage.does for stage in explanation.stages if stage.asks_model)
    serving = replace(engine("A100", base, *adapters), adapters=tuple(adapters))
    loads = place(explanation, [serving]).switches
    assert [load.model for load in loads] == adapters
    assert all(load.seconds == pytest.approx(84e6 / (0.8 * 32e9), rel=0.01) and not load.evicts for load in loads)
    (tight,) = problem_of(explanation, [replace(serving, gpu="A10")]).problem.engines[:1]
    assert tight.room_bytes >= 16.06e9 + len(adapters) * 83e6
    only = place(explanation, [replace(engine("A100", "another", base), adapters=(base,))])
    assert [load.model for load in only.switches] == [base]


def test_stages_whose_model_nobody_serves_are_told_and_left_out() -> None:
    explanation = questions(10)
    placement = place(explanation, [engine("A100", "another")])
    assert set(placement.unplaced) == {s.path for s in explanation.stages if s.asks_model and s.distinct.high}
    assert all(stage.shares[0].engine.startswith("tool:") for stage in placement.stages)


def test_names_of_one_model_share_its_weights() -> None:
    explanation = questions(10)
    models = [stage.does for stage in explanation.stages if stage.asks_model]
    assert len(problem_of(explanation, [engine("A100", *models)]).problem.models) == 1


@pytest.mark.parametrize("rule", BASELINES)
def test_no_rule_is_quicker_than_the_bound(rule: str) -> None:
    explanation, fleet = questions(300), [engine("H100"), engine("L40S"), engine("A10")]
    placement = place(explanation, fleet)
    schedule = BASELINES[rule](problem_of(explanation, fleet).problem, 0)
    assert schedule.makespan_s >= placement.bound_s
    assert schedule.makespan_s >= 0.95 * placement.makespan_s
