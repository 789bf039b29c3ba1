"""The answer to `PlanBatch`: a job's plan, optimised over its rows. Every driver gives it in this way."""

from executor.events import BatchPlanned
from planner.ir.ids import JobId
from planner.ir.plan import Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table


def plan_batch(job: JobId, plan: Plan, table: Table, at: float) -> BatchPlanned:
    (part,) = optimize([JobPart(plan, table)]).parts
    return BatchPlanned(at, job, part.plan, part.order, part.groups)
