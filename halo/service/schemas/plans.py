"""What to run or to explain, and a plan explained."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from halo.service.schemas.base import Given, Row, Told


class PlanSource(Given):
    """What to run: a registered workflow by name, or a plan as `planner.ir.codec` writes it."""

    workflow: Annotated[str | None, Field(max_length=200, description="the name of a registered workflow")] = None
    plan: Annotated[dict[str, Any] | None, Field(description='a plan: `{"format": 1, "plan": {...}}`')] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PlanSource":
        if (self.workflow is None) == (self.plan is None):
            fix = "name a registered workflow, or send a plan"
            raise PydanticCustomError("one_of", "needs either 'workflow' or 'plan'", {"fix": fix})
        return self


class PlanRequest(PlanSource):
    """What to explain, and for which rows."""

    rows: Annotated[list[Row] | None, Field(description="rows to plan for; nothing is run")] = None
    tokenizer: Annotated[
        Literal["characters", "engines"],
        Field(
            description="what counts the prompts that are known before the run: their characters, or the tokenizers of"
            " the engines that serve their models"
        ),
    ] = "characters"

    @model_validator(mode="after")
    def _counts_rows(self) -> "PlanRequest":
        if self.rows is None and self.tokenizer == "engines":
            raise PydanticCustomError("rows", "'tokenizer' counts nothing", {"fix": "send 'rows', or leave it out"})
        return self


class PlanExplained(Told):
    """`plan` is the plan as it was written, for people. For given rows, `forecast` has what they ask for before and
    after merging, stage by stage, with engine time and money on the engines of this service, and `text` the same for
    people; calls are bounds, tokens and times are estimates.
    """

    name: str
    version: str
    models: list[str]
    tools: list[str]
    plan: str
    notes: list[str] = Field(default_factory=list)
    forecast: Row | None = None
    text: str | None = None
