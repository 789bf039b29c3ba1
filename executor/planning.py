"""The answer to `PlanBatch`: a job's plan, optimised over its rows. Every driver gives it in this way."""

from collections.abc import Mapping, Sequence

from executor.engines.port import EngineSpec
from executor.events import BatchPlanned
from executor.placing import placed_shares
from planner.ir.ids import JobId
from planner.ir.plan import Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.prefix.blocks import StageBlocks
from planner.table import Table


def plan_batch(
    job: JobId,
    plan: Plan,
    table: Table,
    at: float,
    token_blocks: Mapping[str, StageBlocks] | None = None,
    fleet: Sequence[EngineSpec] = (),
) -> BatchPlanned:
    """`token_blocks` are the prompts of stages as a tokenizer cut them (see `JobPart`), where one was asked. Stages are
    placed on the engines of `fleet`, where these are unlike (`executor.placing`)."""
    part = JobPart(plan, table, token_blocks or {})
    job_plan = optimize([part])
    (planned,) = job_plan.parts
    shares = placed_shares(part, job_plan, fleet)
    return BatchPlanned(at, job, planned.plan, planned.order, planned.groups, shares=shares)
