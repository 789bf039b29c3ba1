"""A job while it is being planned: what passes take and give."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from planner.ir.ids import StageId
from planner.ir.keys import content_hash
from planner.ir.plan import Plan
from planner.ir.sites import walk
from planner.job import Change, Grouping, JobPart, PassReport
from planner.prefix.blocks import StageBlocks
from planner.table import Table


@dataclass(frozen=True, slots=True)
class DraftPart:
    """A `PlannedPart` in the making, with its rows and what is known of its prompts."""

    plan: Plan
    table: Table
    order: Sequence[int]
    groups: Mapping[StageId, Grouping] = field(default_factory=dict)
    token_blocks: Mapping[str, StageBlocks] = field(default_factory=dict)


Draft = tuple[DraftPart, ...]


class Pass(Protocol):
    """One rewrite of a whole job.

    Takes and gives valid plans; keeps the number of parts and their order, the table of each part, the ids of the
    stages that remain, and the answer of every program that has one; where a prompt leaves the order of its blocks
    free, an answer in some order. Running it again changes nothing. Parts may share one plan object and are numerous
    when programs come singly: what depends on the plan alone is done once a plan.
    """

    def __call__(self, draft: Draft) -> tuple[Draft, PassReport]: ...


def begin(parts: Sequence[JobPart]) -> Draft:
    plans = one_object_per_plan([part.plan for part in parts])
    return tuple(
        DraftPart(plan, part.table, range(part.table.rows), token_blocks=part.token_blocks)
        for part, plan in zip(parts, plans, strict=True)
    )


def one_object_per_plan(plans: Sequence[Plan]) -> list[Plan]:
    """The same plans, equal ones as one object, so that each is looked at once."""
    objects = {id(plan): plan for plan in plans}
    names = {number: content_hash(plan) for number, plan in objects.items()}
    first = {names[number]: plan for number, plan in reversed(objects.items())}
    return [first[names[id(plan)]] for plan in plans]


def parts_of_plans(draft: Draft) -> list[tuple[Plan, list[int]]]:
    """Each plan object once, with the parts that share it."""
    found: dict[int, tuple[Plan, list[int]]] = {}
    for index, part in enumerate(draft):
        found.setdefault(id(part.plan), (part.plan, []))[1].append(index)
    return list(found.values())


Rewritten = tuple[Plan, list[Change]]


def rewrite_plans(draft: Draft, name: str, rewrite: Callable[[Plan], Rewritten]) -> tuple[Draft, PassReport]:
    """The draft with each plan rewritten once, and the changes in the order of the stages. No change, no new plan."""
    parts = list(draft)
    changes: list[Change] = []
    for plan, shared_by in parts_of_plans(draft):
        rewritten, done = rewrite(plan)
        position = {site.path: index for index, site in enumerate(walk(plan))}
        changes += (replace(change, parts=tuple(shared_by)) for change in sorted(done, key=lambda c: position[c.path]))
        if rewritten != plan:
            for index in shared_by:
                parts[index] = replace(parts[index], plan=rewritten)
    counts = Counter(f"stages_{change.what}" for change in changes)
    return tuple(parts), PassReport(name, counts, tuple(changes))
