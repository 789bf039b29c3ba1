"""Equal work of different programs is named, so that it is done once."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.draft import Draft, DraftPart, parts_of_plans
from planner.ir.expressions import Column, Output
from planner.ir.ids import ContentKey, StageId
from planner.ir.keys import is_fixed, operands, operator_key, output_key, work_key
from planner.ir.plan import Plan
from planner.job import Grouping, PassReport
from planner.numbering import Cells, Numbering, Numbers, number_groups, number_together


def merge_across_rows(draft: Draft) -> tuple[Draft, PassReport]:
    """Value numbering, bottom up, of all fixed stages of each plan over all its rows.

    A stage gets a `Grouping` when its work is known before the run: its answer is fixed, and so is every answer it
    reads. Keys name operator and inputs, so that equal work meets across rows, stages, plans and jobs. Costs one
    dictionary look-up a row and column, a sort of integers a stage, and one digest a distinct work.
    """
    parts = list(draft)
    for plan, shared_by in parts_of_plans(draft):
        template = _prepare(plan)
        for index in shared_by:
            parts[index] = replace(parts[index], groups=_groups(template, parts[index]))
    return tuple(parts), _report(parts)


@dataclass(frozen=True, slots=True)
class _Work:
    """A fixed stage that reads fixed work only."""

    stage: StageId
    operator: str
    reads: tuple[Column | Output, ...]


def _prepare(plan: Plan) -> tuple[_Work, ...]:
    known: dict[StageId, _Work] = {}
    for stage in plan.stages:
        reads = operands(stage)
        if is_fixed(stage) and all(isinstance(read, Column) or read.stage in known for read in reads):
            known[stage.id] = _Work(stage.id, operator_key(stage), reads)
    return tuple(known.values())


def _groups(template: Sequence[_Work], part: DraftPart) -> dict[StageId, Grouping]:
    cells = Cells(part.table)
    groups: dict[StageId, Grouping] = {}
    for work in template:
        numbering = _number(work, groups, cells, part.table.rows)
        keys = _keys(work, numbering.firsts, groups, cells)
        sizes = np.bincount(numbering.of_row, minlength=numbering.count)
        groups[work.stage] = Grouping(_as_array(numbering.of_row), keys, _as_array(sizes))
    return groups


def _number(work: _Work, groups: dict[StageId, Grouping], cells: Cells, rows: int) -> Numbering:
    distinct = dict.fromkeys(read if isinstance(read, Column) else read.stage for read in work.reads)
    numberings = (cells.number(read) if isinstance(read, Column) else number_groups(groups[read]) for read in distinct)
    return number_together(tuple(numberings), rows)


def _keys(work: _Work, firsts: Numbers, groups: dict[StageId, Grouping], cells: Cells) -> tuple[ContentKey, ...]:
    """The key of each group, from the inputs that its first row reads."""
    if not work.reads:
        return tuple(work_key(work.operator, ()) for _ in firsts)
    inputs = (_input_keys(read, firsts, groups, cells) for read in work.reads)
    return tuple(work_key(work.operator, keys) for keys in zip(*inputs, strict=True))


def _input_keys(read: Column | Output, firsts: Numbers, groups: dict[StageId, Grouping], cells: Cells) -> list[str]:
    if isinstance(read, Column):
        values = cells.keys(read)
        return [values[number] for number in cells.number(read).of_row[firsts].tolist()]
    source = groups[read.stage]
    return [output_key(source.keys[source.group_of_row[row]], read.path) for row in firsts.tolist()]


def _as_array(numbers: Numbers) -> Sequence[int]:
    return array("q", numbers.astype(np.int64, copy=False).tobytes())


def _report(parts: Sequence[DraftPart]) -> PassReport:
    """Distinct works are counted over all parts: one that two parts ask for is one."""
    asked = sum(part.table.rows * len(part.groups) for part in parts)
    distinct = len({key for part in parts for group in part.groups.values() for key in group.keys})
    return PassReport("merge_across_rows", {"works_asked": asked, "works_distinct": distinct})
