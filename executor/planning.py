"""The answer to `PlanBatch`: a job's plan, optimised over its rows. Every driver gives it in this way."""

from collections.abc import Mapping

from executor.events import BatchPlanned
from planner.ir.ids import JobId
from planner.ir.plan import Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.prefix.blocks import StageBlocks
from planner.table import Table


def plan_batch(
    job: JobId, plan: Plan, table: Table, at: float, token_blocks: Mapping[str, StageBlocks] | None = None
) -> BatchPlanned:
    """`token_blocks` are the prompts of stages as a tokenizer cut them (see `JobPart`), where one was asked."""
    (part,) = optimize([JobPart(plan, table, token_blocks or {})]).parts
    return BatchPlanned(at, job, part.plan, part.order, part.groups)
