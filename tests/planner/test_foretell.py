"""A whole forecast: counts, times, prefixes and placement, for a fleet and without one."""

import json

from example_plans import text_to_sql

from planner.explanation import Explanation
from planner.foretell import foretell
from planner.job import JobPart
from planner.page import page
from planner.table import Table
from planner.timing import PricedEngine

A100 = PricedEngine("A100", {}, 1.8, name="big")
A10 = PricedEngine("A10", {"small": "small"}, 0.75, name="little")


def told(*fleet: PricedEngine) -> Explanation:
    plan = text_to_sql()
    rows = [{"db": "shop", "question": f"question {number}"} for number in range(200)]
    return foretell([JobPart(plan, Table.from_rows(rows, plan.inputs))], fleet).explanation


def test_without_a_fleet_nothing_is_said_of_time_and_place() -> None:
    alone = told()
    assert alone.placement is None
    assert alone.prefixes
    assert all(saving.kv_tokens is None for saving in alone.prefixes)
    assert "makespan" not in alone.to_text()


def test_every_stage_that_costs_something_has_its_place_on_the_engines_that_were_named() -> None:
    both = told(A100, A10)
    assert both.placement is not None
    assert {
        share.engine for stage in both.placement.stages for share in stage.shares if "tool:" not in share.engine
    } <= {
        "big",
        "little",
    }
    run = {stage.path for stage in both.stages if stage.distinct.high and stage.kind in ("generate", "tool")}
    assert {stage.path for stage in both.placement.stages} == run
    assert both.placement.bound_s <= both.placement.makespan_s


def test_all_of_it_is_told_in_every_format() -> None:
    both = told(A100, A10)
    assert both.placement is not None
    text, data = both.to_text(), json.loads(json.dumps(both.to_json()))
    assert "no schedule is below" in text
    assert "in the planned order, and (LRU) in the order of the rows" in text
    assert data["placement"]["makespan_s"] == both.placement.makespan_s
    assert [saving["model"] for saving in data["prefixes"]] == [saving.model for saving in both.prefixes]
    assert "no schedule is below" in page(both)
    assert all(stage.path.split("/")[-1] in both.to_tree() for stage in both.stages)
    assert "on big" in both.to_tree()
    assert "on big" in both.to_mermaid()


def test_the_same_job_and_fleet_give_the_same_forecast() -> None:
    """What EXPLAIN ANALYZE makes again after a run is what EXPLAIN told before it."""
    assert told(A100, A10) == told(A100, A10)


def test_the_room_an_engine_told_of_itself_is_believed() -> None:
    tight = told(PricedEngine("A100", {}, 1.8, name="tight", kv_room_tokens=500))
    assert {saving.kv_tokens for saving in tight.prefixes} == {500.0}
