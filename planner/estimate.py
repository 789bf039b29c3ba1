"""How long texts will be, before any is written: as they were in earlier runs, else by stated priors, which are good
for comparing and for nothing finer."""

from collections.abc import Iterator, Mapping

from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.ir.evaluate import format_value
from planner.ir.expressions import Column, Const, Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool
from planner.ir.sites import bodies_at, given_input
from planner.ir.tokens import CHARS_PER_TOKEN

TOOL_OUTPUT_TOKENS = 250
ITEM_TOKENS = 100
MAP_ITEMS = 4

_LENGTH_PRIORS = (
    "an answer that a later prompt reads is as long as max_tokens",
    f"a tool gives {TOOL_OUTPUT_TOKENS} tokens",
)
_MAP_PRIOR = f"a map has {MAP_ITEMS} items of {ITEM_TOKENS} tokens where its list is not known"


def assumptions(experience: Experience) -> Iterator[str]:
    """What the estimates below assume, in words."""
    told = experience.chars_per_token != CHARS_PER_TOKEN
    source = "as tokenizers or engines told" if told else "a guess, within a third for English and SQL"
    yield f"a token is {experience.chars_per_token:.3g} characters, {source}"
    yield from experience.assumptions()
    yield from (f"{prior}, where it was not seen" if experience.seen else prior for prior in _LENGTH_PRIORS)
    yield _MAP_PRIOR


class Estimates:
    """Lengths in tokens, with what is known from `experience`."""

    def __init__(self, experience: Experience = NO_EXPERIENCE) -> None:
        self.experience = experience
        self.chars_per_token = experience.chars_per_token

    def outputs(self, plan: Plan, column_tokens: Mapping[str, float], prefix: str = "") -> dict[StageId, float]:
        """The length of each stage's output, given that of each column. `prefix` leads to a body."""
        outputs: dict[StageId, float] = {}
        for stage in plan.stages:
            outputs[stage.id] = self._stage(stage, prefix + stage.id, column_tokens, outputs)
        return outputs

    def expression(self, expr: Expr, columns: Mapping[str, float], outputs: Mapping[StageId, float]) -> float:
        """What the parts come to; a path takes the whole of what it looks into."""
        return sum(self._leaf(leaf, columns, outputs) for leaf in leaves(expr))

    def body_columns(
        self, stage: Stage, body: Body, columns: Mapping[str, float], outputs: Mapping[StageId, float]
    ) -> dict[str, float]:
        """The length of each column of a body."""
        given = given_input(stage)
        known = {} if given is None else {given: float(ITEM_TOKENS)}
        if isinstance(stage, Loop):
            known["state"] = self.expression(stage.initial, columns, outputs)
        return known | {bound.name: self.expression(bound.value, columns, outputs) for bound in body.bindings}

    def _leaf(
        self, leaf: Const | Column | Output, columns: Mapping[str, float], outputs: Mapping[StageId, float]
    ) -> float:
        match leaf:
            case Const(value=constant):
                return len(format_value(constant)) / self.chars_per_token
            case Column(name=name):
                return columns[name]
            case Output(stage=stage):
                return outputs[stage]

    def _stage(self, stage: Stage, path: str, columns: Mapping[str, float], outputs: Mapping[StageId, float]) -> float:
        match stage:
            case Generate() | Agent():
                known = self.experience.output_tokens.get(path)
                return stage.sampling.max_tokens if known is None else known.mean
            case Tool():
                chars = self.experience.tool_output_chars.get(path)
                return TOOL_OUTPUT_TOKENS if chars is None else chars / self.chars_per_token
            case Join():
                return self.expression(stage.value, columns, outputs)
        results = [self._result(stage, prefix, body, columns, outputs) for prefix, body in bodies_at(path, stage)]
        return max(results) * (MAP_ITEMS if isinstance(stage, Map) else 1)

    def _result(
        self,
        stage: Choose | Map | Loop,
        prefix: str,
        body: Body,
        columns: Mapping[str, float],
        outputs: Mapping[StageId, float],
    ) -> float:
        inside = self.body_columns(stage, body, columns, outputs)
        return self.expression(body.plan.result, inside, self.outputs(body.plan, inside, prefix))
