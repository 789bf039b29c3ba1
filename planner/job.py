"""What is planned, and what comes out of planning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from planner.ir.ids import ContentKey, StageId
from planner.ir.plan import Plan
from planner.table import Table

if TYPE_CHECKING:
    from planner.prefix.blocks import StageBlocks  # it loads numpy, which the SDK does without


@dataclass(frozen=True, slots=True)
class JobPart:
    """A valid plan and the rows it shall run on.

    `token_blocks` has the prompts of stages, by their paths, as the engine's own tokenizer cut them; of the others,
    lengths are estimated. They must be of the prompts as they are planned: see `planner.prefix.known`.
    """

    plan: Plan
    table: Table
    token_blocks: Mapping[str, "StageBlocks"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which rows ask one stage for the same work, known before anything has run.

    `group_of_row[row]` indexes `keys` and `sizes`; groups stand in order of first appearance. Equal keys mean equal
    work in other stages, parts and jobs too. A stage without a grouping does its own work for each row.
    """

    group_of_row: Sequence[int]
    keys: tuple[ContentKey, ...]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """`order[i]` is the row to start in place `i`; `groups` names stages of the plan itself, not those in bodies."""

    plan: Plan
    order: Sequence[int]
    groups: Mapping[StageId, Grouping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass did to one stage. `path` names it as in `planner.ir.sites`; `parts` are all that share its plan.

    `detail` is the path of the stage that took over (merged), or why the stage stays (kept).
    """

    what: Literal["dropped", "merged", "kept"]
    path: str
    detail: str = ""
    parts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did. `counts` are named for the user."""

    name: str
    counts: Mapping[str, int]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Parts in the order in which they were given; `report` has one entry per pass."""

    parts: tuple[PlannedPart, ...]
    report: tuple[PassReport, ...]
