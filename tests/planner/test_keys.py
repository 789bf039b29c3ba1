from dataclasses import replace

import pytest
from example_plans import LOOKUP, RUN_SQL, SAMPLED, every_kind, generate, join, output, text_to_sql, tool, user
from hypothesis import given, settings
from plan_strategies import plans

from planner.ir.codec import decode, encode
from planner.ir.expressions import Array, Column, Const
from planner.ir.ids import StageId
from planner.ir.keys import content_hash, is_fixed, operands, operator_key, output_key, value_key, work_key
from planner.ir.plan import Agent, Body, Fallback, Input, Map, Plan, Sampling, Stage
from planner.ir.values import Json


@settings(max_examples=50)
@given(plans())
def test_a_plan_keeps_its_name_through_its_text(plan: Plan) -> None:
    assert content_hash(decode(encode(plan))) == content_hash(plan)


def test_the_name_follows_the_content_and_nothing_else() -> None:
    assert content_hash(text_to_sql()) == content_hash(text_to_sql())
    assert content_hash(text_to_sql()) != content_hash(replace(text_to_sql(), version="2"))
    whole = replace(generate("g"), timeout_s=30)
    assert content_hash(Plan("p", (), (whole,), Const(1))) == content_hash(
        Plan("p", (), (replace(whole, timeout_s=30.0),), Const(1))
    )


def test_names_in_golden_files_and_databases_stay_what_they_are() -> None:
    assert content_hash(every_kind()) == "801248e7a3da9c6941f31d545a52a9b0"


def test_a_field_that_came_later_is_named_only_where_it_is_used() -> None:
    usual, batched = (Plan("p", (), (tool("t", replace(LOOKUP, max_batch=most)),), Const(1)) for most in (1, 8))
    assert "max_batch" not in encode(usual)
    assert decode(encode(batched)) == batched
    assert content_hash(usual) != content_hash(batched)


def test_an_operator_is_what_a_stage_does_without_its_id_and_its_inputs() -> None:
    left = generate("a", Const("Q: "), Column("question"))
    right = generate("b", Const("Q: "), output("x", "text"))
    assert operator_key(left) == operator_key(right)
    assert operands(left) == (Column("question"),)
    assert operands(right) == (output("x", "text"),)


@pytest.mark.parametrize(
    "other",
    [
        generate("a", Const("q: "), Column("question")),
        generate("a", Column("question"), Const("Q: ")),
        generate("a", Const("Q: "), Column("question"), model="large"),
        generate("a", Const("Q: "), Column("question"), sampling=SAMPLED),
        replace(generate("a", Const("Q: "), Column("question")), fallback=Fallback(1)),
        replace(generate("a", Const("Q: "), Column("question")), schema={}),
        join("a", Array((Const("Q: "), Column("question")))),
    ],
)
def test_whatever_can_change_the_answer_is_in_the_operator(other: Stage) -> None:
    assert operator_key(other) != operator_key(generate("a", Const("Q: "), Column("question")))


def answer_schema(*names: str) -> Json:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def test_the_order_of_a_schemas_fields_is_part_of_the_work() -> None:
    """An engine that decodes under a schema writes the fields in its order, and what it wrote it reads on."""
    reason_first = replace(generate("a"), schema=answer_schema("reason", "answer"))
    answer_first = replace(generate("a"), schema=answer_schema("answer", "reason"))
    assert operator_key(reason_first) != operator_key(answer_first)
    assert content_hash(Plan("p", (), (reason_first,), Const(1))) != content_hash(
        Plan("p", (), (answer_first,), Const(1))
    )

    def agent(*names: str) -> Stage:
        return Agent(StageId("a"), "m", user(), (replace(LOOKUP, parameters=answer_schema(*names)),))

    assert operator_key(agent("a", "b")) != operator_key(agent("b", "a"))


def body_of(*stages: Stage, result: str) -> Body:
    return Body(Plan("any name", (Input("item"),), stages, output(result)))


def test_ids_inside_bodies_do_not_matter_but_their_wiring_does() -> None:
    def each(first: str, second: str, read: str) -> Stage:
        stages = generate(first, Column("item")), generate(second, output(first))
        return Map(StageId("m"), Column("items"), body_of(*stages, result=read))

    assert operator_key(each("a", "b", "b")) == operator_key(each("x", "y", "y"))
    assert operator_key(each("a", "b", "b")) != operator_key(each("a", "b", "a"))


@pytest.mark.parametrize(
    ("stage", "fixed"),
    [
        (generate("g"), True),
        (generate("g", sampling=Sampling(temperature=1.0)), False),
        (generate("g", sampling=Sampling(temperature=1.0, seed=1)), True),
        (tool("t", LOOKUP), True),
        (tool("t", RUN_SQL), False),
        (join("j", Const(1)), True),
        (Agent(StageId("a"), "m", user(), (LOOKUP,)), True),
        (Agent(StageId("a"), "m", user(), (LOOKUP, RUN_SQL)), False),
        (Map(StageId("m"), Column("items"), body_of(generate("g"), result="g")), True),
        (Map(StageId("m"), Column("items"), body_of(tool("t", RUN_SQL), result="t")), False),
    ],
)
def test_an_answer_is_fixed_where_asking_twice_gives_the_same(stage: Stage, fixed: bool) -> None:
    assert is_fixed(stage) is fixed


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (1, "1"), (0.0, -0.0), (None, "null"), ([], {})])
def test_values_that_read_differently_have_different_keys(one: Json, other: Json) -> None:
    assert value_key(one) != value_key(other)


def test_keys_of_different_kinds_never_meet() -> None:
    work = work_key(operator_key(generate("g")), [value_key(1)])
    assert len({work, output_key(work, ("k",)), value_key(work), work_key(work, [])}) == 4
    assert value_key({"a": 1, "b": 2}) == value_key({"b": 2, "a": 1})
