"""From a job as it was written to a job as it shall be run."""

from collections.abc import Sequence

from planner.draft import Pass, begin
from planner.job import JobPart, JobPlan, PassReport, PlannedPart
from planner.passes import PASSES


def optimize(parts: Sequence[JobPart], passes: Sequence[Pass] = PASSES) -> JobPlan:
    """The job after each pass in turn, and what each did.

    Plans must be valid (`planner.ir.check`) and tables must be made for them (`planner.table`).
    """
    draft = begin(parts)
    report: list[PassReport] = []
    for rewrite in passes:
        draft, done = rewrite(draft)
        report.append(done)
    return JobPlan(tuple(PlannedPart(part.plan, part.order, part.groups) for part in draft), tuple(report))
