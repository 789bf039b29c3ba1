"""Parts with one plan as one part: 10,000 programs that came singly are explained as quickly as 10,000 rows."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from planner.draft import one_object_per_plan
from planner.ir.ids import ContentKey, StageId
from planner.job import Grouping, JobPart, JobPlan, PassReport, PlannedPart
from planner.table import Table


def join_parts(parts: Sequence[JobPart], job_plan: JobPlan) -> tuple[list[JobPart], JobPlan]:
    """The same rows in as few parts as may be, in the order in which plans come up; each part in its planned order.

    Parts whose prompts a tokenizer has counted are left alone.
    """
    groups: dict[tuple[int, int, int], list[int]] = {}
    for index, plan in enumerate(one_object_per_plan([part.plan for part in parts])):
        alone = index if parts[index].token_blocks else -1
        groups.setdefault((id(plan), id(job_plan.parts[index].plan), alone), []).append(index)
    if len(groups) == len(parts):
        return list(parts), job_plan
    together = list(groups.values())
    joined = [_joined([parts[index] for index in found]) for found in together]
    planned = [_joined_plan([(parts[index], job_plan.parts[index]) for index in found]) for found in together]
    place = {index: number for number, found in enumerate(together) for index in found}
    return joined, JobPlan(tuple(planned), tuple(_renumbered(report, place) for report in job_plan.report))


def _joined(parts: Sequence[JobPart]) -> JobPart:
    if len(parts) == 1:
        return parts[0]
    columns = {name: [*chain.from_iterable(p.table.columns[name] for p in parts)] for name in parts[0].table.columns}
    return JobPart(parts[0].plan, Table(columns, sum(part.table.rows for part in parts)))


def _joined_plan(parts: Sequence[tuple[JobPart, PlannedPart]]) -> PlannedPart:
    if len(parts) == 1:
        return parts[0][1]
    order: list[int] = []
    for part, planned in parts:
        first = len(order)
        order += [first + row for row in planned.order]
        assert len(order) == first + part.table.rows
    stages = parts[0][1].groups
    return PlannedPart(parts[0][1].plan, order, {stage: _joined_groups(stage, parts) for stage in stages})


def _joined_groups(stage: StageId, parts: Sequence[tuple[JobPart, PlannedPart]]) -> Grouping:
    numbers: dict[ContentKey, int] = {}
    of_row: list[int] = []
    for _, planned in parts:
        grouping = planned.groups[stage]
        here = [numbers.setdefault(key, len(numbers)) for key in grouping.keys]
        of_row += [here[group] for group in grouping.group_of_row]
    sizes = [0] * len(numbers)
    for group in of_row:
        sizes[group] += 1
    return Grouping(of_row, tuple(numbers), sizes)


def _renumbered(report: PassReport, place: dict[int, int]) -> PassReport:
    changes = (
        replace(change, parts=tuple(dict.fromkeys(place[part] for part in change.parts))) for change in report.changes
    )
    return replace(report, changes=tuple(changes))
