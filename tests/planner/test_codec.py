import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from plan_strategies import plans

from planner.errors import PlanUnreadable
from planner.ir.check import check
from planner.ir.codec import MAX_BYTES, MAX_DEPTH, decode, encode
from planner.ir.expressions import Array, Concat, Const, Expr, Output
from planner.ir.ids import StageId
from planner.ir.plan import Body, Case, Choose, Generate, Join, Message, Plan
from planner.ir.values import Json

PLAN = Plan("p", (), (Join(StageId("j"), Const(1)),), Output(StageId("j")))


@settings(max_examples=50)
@given(plans())
def test_a_plan_comes_back_from_its_text_as_it_was(plan: Plan) -> None:
    assert decode(encode(plan)) == plan
    assert decode(encode(plan).encode()) == plan


def test_the_text_says_its_format() -> None:
    assert json.loads(encode(PLAN))["format"] == 1


def places(text: str | bytes) -> list[str]:
    with pytest.raises(PlanUnreadable) as caught:
        decode(text)
    return [f"{problem.where} {problem.what}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "$ is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"\xff", "$ is not UTF-8"),
        ("[]", '$ is no object with "format" and "plan"'),
        ('{"format": 2, "plan": {}}', "format is 2"),
        ('{"format": true, "plan": {}}', "format is True"),
        ('{"format": 1, "format": 1}', "$ gives 'format' twice in one object"),
        ('{"format": 1, "plan": NaN}', "$ holds NaN, which is not JSON"),
        ("[" * 1_000_000, f"$ is nested more than {MAX_DEPTH} deep"),
        ('"' + '\\"' * 1_000_000, "$ is not JSON (Unterminated string"),
        ("[" + "9" * 5000 + "]", "$ is not JSON (Exceeds the limit"),
        (" " * (MAX_BYTES + 1), f"$ is {MAX_BYTES + 1} bytes long"),
    ],
)
def test_what_is_no_plan_is_refused_with_one_clear_reason(text: str | bytes, complaint: str) -> None:
    assert [told[: len(complaint)] for told in places(text)] == [complaint]


def test_every_wrong_place_is_told() -> None:
    document = json.loads(encode(PLAN))
    document["plan"]["colour"] = "red"
    document["plan"]["version"] = 1
    document["plan"]["stages"][0]["value"]["kind"] = "guess"
    del document["plan"]["inputs"]
    assert sorted(place.split()[0] for place in places(json.dumps(document))) == [
        "plan.colour",
        "plan.inputs",
        "plan.stages[0].join.value",
        "plan.version",
    ]


def test_types_are_not_bent() -> None:
    call = Generate(StageId("g"), "m", (Message("user", Concat(())),))
    text = encode(Plan("p", (), (call,), Const(1)))
    assert places(text.replace('"retries":2', '"retries":"2"')) == [
        "plan.stages[0].generate.retries Input should be a valid integer"
    ]


def test_a_flood_of_problems_is_one_problem() -> None:
    assert places('{"format":1,"plan":{"inputs":[' + "1," * 100_000 + "1]}}") == ["$ has 100004 problems"]


def in_arrays(depth: int) -> Plan:
    expr: Expr = Const(1)
    for _ in range(depth):
        expr = Array((expr,))
    return Plan("p", (), (), expr)


def in_choices(depth: int) -> Plan:
    plan = PLAN
    for _ in range(depth):
        case = Case(1, Body(plan))
        plan = Plan("p", (), (Choose(StageId("c"), Const(1), (case,), Body(PLAN)),), Output(StageId("c")))
    return plan


@pytest.mark.parametrize("nest", [in_arrays, in_choices])
def test_the_checker_lets_nothing_through_that_is_refused_for_its_depth(nest: Callable[[int], Plan]) -> None:
    deepest = max(depth for depth in range(120) if not check(nest(depth)))
    assert deepest > 25
    assert decode(encode(nest(deepest))) == nest(deepest)


def test_the_fields_of_an_answer_keep_their_order() -> None:
    """An engine writes an answer's fields in the order of its schema: first the reasons, then the answer."""
    schema: Json = {"type": "object", "properties": {"reasons": {"type": "string"}, "answer": {"type": "string"}}}
    call = Generate(StageId("judge"), "m", (Message("user", Concat((Const("?"),))),), schema=schema)
    (decoded,) = decode(encode(Plan("p", (), (call,), Const(None)))).stages
    assert isinstance(decoded, Generate)
    assert isinstance(decoded.schema, dict)
    assert [*decoded.schema["properties"]] == ["reasons", "answer"]
