import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from plan_strategies import plans

from planner.errors import PlanInvalid
from planner.ir.check import MAX_BODY_DEPTH, MAX_LITERAL_BYTES, MAX_STAGES, check, require_valid
from planner.ir.expressions import Array, Column, Compare, Concat, Const, Expr, Field, Object, Output
from planner.ir.ids import StageId
from planner.ir.plan import (
    Agent,
    Binding,
    Body,
    Effect,
    Fallback,
    Generate,
    Input,
    Join,
    Loop,
    Map,
    Message,
    Plan,
    Sampling,
    Stage,
    Tool,
    ToolSpec,
)
from planner.ir.values import Json

QUESTION = Input("question")
NOTHING = Const(None)
ONE = Const(1)


def told(plan: Plan) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in check(plan)]


def plan_of(*stages: Stage, result: Expr = NOTHING, inputs: tuple[Input, ...] = (QUESTION,)) -> Plan:
    return Plan("p", inputs, stages, result)


def generate(name: str = "g", *segments: Expr, **changes: Json) -> Generate:
    stage = Generate(StageId(name), "m", (Message("user", Concat(segments or (Column("question"),))),))
    return replace(stage, **changes)


def join(name: str, value: Expr = ONE) -> Join:
    return Join(StageId(name), value)


@settings(max_examples=50)
@given(plans())
def test_drawn_plans_are_valid(plan: Plan) -> None:
    assert check(plan) == ()


def test_a_valid_plan_passes_and_an_invalid_one_raises_with_everything() -> None:
    require_valid(plan_of(generate()))
    with pytest.raises(
        PlanInvalid, match=r"(?s)2 problems.*reads column 'qestion'.*did you mean 'question'\?"
    ) as caught:
        require_valid(plan_of(generate("g", Column("qestion"), retries=99)))
    assert len(caught.value.problems) == 2


def test_stage_ids_are_legal_and_stand_once() -> None:
    assert told(plan_of(join("a"), join("a"), join("1"), join("x/y"), join("ok.is-fine_1"))) == [
        "a: names two stages",
        "1: '1' is no stage id",
        "x/y: 'x/y' is no stage id",
    ]


def test_a_stage_reads_what_stands_before_it() -> None:
    later = plan_of(join("a", Output(StageId("b"))), join("b", Output(StageId("b"))), result=Output(StageId("c")))
    assert told(later) == [
        "a.value: reads stage 'b', which does not come before it",
        "b.value: reads stage 'b', which does not come before it",
        "result: reads stage 'c', which is not there",
    ]


def test_inputs_stand_once_and_their_defaults_fit() -> None:
    shots = Input("shots", {"type": "integer"}, Fallback("three"))
    wrong = Input("wrong", {"type": "intgr"}, Fallback((1, 2)))
    assert [line.split(":")[0] for line in told(plan_of(inputs=(QUESTION, QUESTION, shots, wrong)))] == [
        "inputs.question",
        "inputs.shots.default",
        "inputs.wrong.schema",
        "inputs.wrong.default",
    ]


def test_a_body_gets_every_input_it_has_and_no_other() -> None:
    body = Body(Plan("body", (Input("item"), Input("hint"), Input("db")), (), Column("other")))
    bindings = (
        Binding("item", Const(1)),
        Binding("hint", Column("nope")),
        Binding("hint", Const(1)),
        Binding("x", Const(1)),
    )
    stage = Map(StageId("m"), Array(()), replace(body, bindings=bindings))
    assert told(plan_of(stage)) == [
        "m[*]/bindings.hint: is bound twice",
        "m[*]/bindings.item: is given by the stage itself",
        "m[*]/bindings.hint: reads column 'nope', which is no input",
        "m[*]/bindings.x: binds what is no input of the body",
        "m[*]/inputs.db: is given no value",
        "m[*]/result: reads column 'other', which is no input",
    ]


def test_a_body_does_not_see_the_stages_around_it() -> None:
    body = Body(Plan("body", (Input("state"),), (), Output(StageId("outer"))))
    until = Compare("==", Column("state"), Output(StageId("outer")))
    assert told(plan_of(join("outer"), Loop(StageId("l"), Const(1), until, body, 3))) == [
        "l#*/result: reads stage 'outer', which is not there",
        "l.until: reads stage 'outer'",
    ]


def test_until_reads_the_state_only() -> None:
    body = Body(Plan("body", (Input("state"),), (), Column("state")))
    until = Compare("and", Column("state", ("done",)), Column("question"))
    assert told(plan_of(Loop(StageId("l"), Const(1), until, body, 3))) == ["l.until: reads column 'question'"]


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        (generate(sampling=Sampling(max_tokens=0)), "g.sampling.max_tokens"),
        (generate(sampling=Sampling(temperature=2.1)), "g.sampling.temperature"),
        (generate(sampling=Sampling(temperature=math.nan)), "g.sampling.temperature"),
        (generate(sampling=Sampling(top_p=0.0)), "g.sampling.top_p"),
        (generate(sampling=Sampling(stop=("",))), "g.sampling.stop"),
        (generate(timeout_s=0), "g.timeout_s"),
        (generate(timeout_s=math.inf), "g.timeout_s"),
        (generate(retries=11), "g.retries"),
        (generate(model=""), "g.model"),
        (generate(messages=()), "g.messages"),
        (generate(fallback=Fallback({1: 2})), "g.fallback"),
        (generate("g", Const("\ud800")), "g.messages[0]"),
        (generate("g", Const(math.inf)), "g.messages[0]"),
        (Map(StageId("m"), Array(()), Body(plan_of(inputs=())), 10_001), "m.max_items"),
        (Loop(StageId("l"), Const(1), Const(True), Body(plan_of(inputs=())), 0), "l.max_rounds"),
        (Agent(StageId("a"), "m", generate().messages, (), max_turns=201), "a.max_turns"),
        (Agent(StageId("a"), "m", generate().messages, (ToolSpec("a b"),)), "a.tools[0].name"),
        (Tool(StageId("t"), ToolSpec("t", retries=-1), Object(())), "t.tool.retries"),
        (Tool(StageId("t"), ToolSpec("t", timeout_s=-1.0), Object(())), "t.tool.timeout_s"),
        (Tool(StageId("t"), ToolSpec("t", concurrency=0), Object(())), "t.tool.concurrency"),
        (Tool(StageId("t"), ToolSpec("t", max_batch=0), Object(())), "t.tool.max_batch"),
        (Tool(StageId("t"), ToolSpec("t", Effect.UNSAFE, max_batch=2), Object(())), "t.tool.max_batch"),
        (Tool(StageId("t"), ToolSpec("t"), Object((Field("x", Const(1)), Field("x", Const(2))))), "t.arguments"),
    ],
)
def test_figures_keep_their_bounds(stage: Stage, where: str) -> None:
    assert [problem.where for problem in check(plan_of(stage))] == [where]


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ([], "is no JSON object"),
        ({"type": "strin"}, "is no JSON schema"),
        ({"pattern": "("}, "is no JSON schema"),
        ({"$ref": "https://example.org/schema"}, "refers to 'https://example.org/schema', outside itself"),
        ({"properties": {"x": {"$ref": "#/$defs/x"}}}, "refers to '#/$defs/x', which is not there"),
        ({"$ref": "#"}, "is nested too deeply, or refers to itself without end"),
    ],
)
def test_schemas_are_whole_and_refer_to_nothing_outside(schema: Json, complaint: str) -> None:
    (problem,) = check(plan_of(generate(schema=schema)))
    assert problem.where == "g.schema"
    assert problem.what.startswith(complaint)


def test_recursive_and_anchored_schemas_are_fine() -> None:
    tree: Json = {
        "properties": {"kids": {"items": {"$ref": "#"}}, "x": {"$ref": "#a"}},
        "$defs": {"y": {"$anchor": "a"}},
    }
    assert check(plan_of(generate(schema=tree))) == ()


def test_a_tool_gets_the_arguments_it_requires_and_no_strangers() -> None:
    parameters = {"properties": {"x": {}}, "required": ["x"], "additionalProperties": False}
    stage = Tool(StageId("t"), ToolSpec("t", parameters=parameters), Object((Field("y", Const(1)),)))
    assert told(plan_of(stage)) == ["t.arguments: lack 'x'", "t.arguments.y: is unknown to tool 't'"]


def test_one_tool_name_has_one_description() -> None:
    pure = Tool(StageId("a"), ToolSpec("t", Effect.PURE), Object(()))
    unsafe = Agent(StageId("b"), "m", generate().messages, (ToolSpec("t", Effect.UNSAFE),))
    assert told(plan_of(pure, unsafe)) == ["b: describes tool 't' otherwise than a does"]


def test_plans_are_bounded() -> None:
    many = plan_of(*(join(f"s{i}") for i in range(MAX_STAGES + 1)))
    long = plan_of(generate("g", Const("ü" * (MAX_LITERAL_BYTES // 2 + 1))))
    deep = plan_of(join("j"))
    for _ in range(MAX_BODY_DEPTH + 1):
        deep = plan_of(Map(StageId("m"), Array(()), Body(replace(deep, inputs=()))))
    assert told(many) == ["p: has 20001 stages"]
    assert told(long) == ["p: holds 262146 bytes of literal text"]
    assert told(deep) == ["p: nests bodies more than 32 deep"]


def test_nesting_without_end_is_one_problem() -> None:
    expr: Expr = Const(1)
    for _ in range(100_000):
        expr = Array((expr,))
    assert told(plan_of(result=expr)) == ["p: is nested more than 192 deep"]
    while isinstance(expr, Array):  # taken apart from outside: Python would recurse to free it
        (expr,) = expr.items
