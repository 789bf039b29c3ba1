"""How long texts will be, before any is written: stated priors, good for comparing and for nothing finer."""

from collections.abc import Mapping

from planner.ir.evaluate import format_value
from planner.ir.expressions import Column, Const, Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool
from planner.ir.reads import bodies_of
from planner.ir.sites import given_input
from planner.ir.tokens import CHARS_PER_TOKEN

TOOL_OUTPUT_TOKENS = 250
ITEM_TOKENS = 100
MAP_ITEMS = 4

PRIORS = (
    f"a token is {CHARS_PER_TOKEN} characters",
    "a model writes all of its max_tokens",
    f"a tool gives {TOOL_OUTPUT_TOKENS} tokens",
    f"a map has {MAP_ITEMS} items of {ITEM_TOKENS} tokens where its list is not known",
)


def output_tokens(plan: Plan, column_tokens: Mapping[str, float]) -> dict[StageId, float]:
    """The estimated length of each stage's output, given that of each column."""
    outputs: dict[StageId, float] = {}
    for stage in plan.stages:
        outputs[stage.id] = _stage_tokens(stage, column_tokens, outputs)
    return outputs


def expression_tokens(expr: Expr, columns: Mapping[str, float], outputs: Mapping[StageId, float]) -> float:
    """What the parts come to; a path takes the whole of what it looks into."""
    return sum(_leaf_tokens(leaf, columns, outputs) for leaf in leaves(expr))


def _leaf_tokens(
    leaf: Const | Column | Output, columns: Mapping[str, float], outputs: Mapping[StageId, float]
) -> float:
    match leaf:
        case Const(value=constant):
            return len(format_value(constant)) / CHARS_PER_TOKEN
        case Column(name=name):
            return columns[name]
        case Output(stage=stage):
            return outputs[stage]


def _stage_tokens(stage: Stage, columns: Mapping[str, float], outputs: Mapping[StageId, float]) -> float:
    match stage:
        case Generate() | Agent():
            return stage.sampling.max_tokens
        case Tool():
            return TOOL_OUTPUT_TOKENS
        case Join():
            return expression_tokens(stage.value, columns, outputs)
    results = [_result_tokens(stage, body, columns, outputs) for body in bodies_of(stage)]
    return max(results) * (MAP_ITEMS if isinstance(stage, Map) else 1)


def _result_tokens(
    stage: Choose | Map | Loop, body: Body, columns: Mapping[str, float], outputs: Mapping[StageId, float]
) -> float:
    inside = body_column_tokens(stage, body, columns, outputs)
    return expression_tokens(body.plan.result, inside, output_tokens(body.plan, inside))


def body_column_tokens(
    stage: Stage, body: Body, columns: Mapping[str, float], outputs: Mapping[StageId, float]
) -> dict[str, float]:
    """The estimated length of each column of a body."""
    given = given_input(stage)
    known = {} if given is None else {given: float(ITEM_TOKENS)}
    if isinstance(stage, Loop):
        known["state"] = expression_tokens(stage.initial, columns, outputs)
    return known | {bound.name: expression_tokens(bound.value, columns, outputs) for bound in body.bindings}
