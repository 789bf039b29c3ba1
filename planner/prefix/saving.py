"""What a job's prompts share: at best, in the planned order, and in the order in which its rows came."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.cost.quantiles import length_prior
from planner.ir.ids import ContentKey, StageId
from planner.ir.plan import Agent, Generate
from planner.job import JobPart, JobPlan, PlannedPart
from planner.numbering import number_groups
from planner.prefix.blocks import Ids, StageBlocks, joined
from planner.prefix.groups import Group, enlarged, first_level, groups_at_once
from planner.prefix.replay import replay
from planner.prefix.texts import Cut, text_blocks
from planner.prefix.tree import PrefixTree
from planner.prompts import prompts_of
from planner.segments import Segments


@dataclass(frozen=True, slots=True)
class PrefixSaving:
    """Of the calls of one model, after merging: prompt tokens, and how many of them need not be computed.

    `optimum_tokens` with a cache without bounds; `planned_tokens` and `arrival_tokens` with one of `kv_tokens`, for the
    planned order and for that of the rows (equal to the optimum where `kv_tokens` is None: not known).
    `first_level_tokens` and `enlarged_tokens` with one common prefix a group only; an engine that holds `kv_tokens`
    has room for `groups_at_once` of the `groups`. `counted` says how: by the engine's tokenizer, or by characters.

    Calls are taken one after another, each program's in the order of its stages; those in bodies are left out.
    """

    model: str
    calls: int
    prompt_tokens: float
    kv_tokens: float | None
    optimum_tokens: float
    planned_tokens: float
    arrival_tokens: float
    first_level_tokens: float
    enlarged_tokens: float
    groups: int
    groups_at_once: int
    counted: Literal["tokens", "characters", "both"]

    def share(self, tokens: float) -> float:
        """`tokens` as a share of all prompt tokens, from 0 to 1."""
        return tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def prefix_savings(
    parts: Sequence[JobPart],
    job_plan: JobPlan,
    kv_tokens: Mapping[str, float],
    cut: Cut | None = None,
    experience: Experience = NO_EXPERIENCE,
) -> tuple[PrefixSaving, ...]:
    """One saving for each model that the job calls, in the order of the plan.

    `kv_tokens` is the room of one engine of the model (its calls run on one, or prefixes are kept apart). Prompts are
    measured in the blocks that the parts bring (`JobPart.token_blocks`); `cut` says how the text of others is cut.
    """
    stages = list(_called(parts, job_plan, cut or Cut(), experience))
    models = dict.fromkeys(stage.model for stage in stages)
    return tuple(
        _saving(model, [stage for stage in stages if stage.model == model], kv_tokens.get(model)) for model in models
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """The calls of one stage: the prompt of each, and its places in the order of rows and in the planned order."""

    model: str
    blocks: StageBlocks
    rows: Ids
    arrival: Ids
    planned: Ids
    output_tokens: float
    by_tokenizer: bool


def _called(parts: Sequence[JobPart], job_plan: JobPlan, cut: Cut, experience: Experience) -> Iterator[_Stage]:
    """The stages of all parts; the rows of one part come after those of the parts before it."""
    seen: set[ContentKey] = set()
    before = 0
    for part, planned in zip(parts, job_plan.parts, strict=True):
        segments = Segments(planned.plan, part.table, planned.groups, experience)
        outermost = {stage.id for stage in planned.plan.stages}
        for prompt in prompts_of(planned.plan):
            if prompt.path in outermost:
                known = part.token_blocks.get(prompt.path)
                blocks = known or text_blocks(prompt, segments, part.table.rows, cut)
                yield _stage(prompt.stage, planned, before, blocks, known is not None, seen, experience)
        before += part.table.rows


def _stage(
    stage: Generate | Agent,
    planned: PlannedPart,
    before: int,
    blocks: StageBlocks,
    by_tokenizer: bool,
    seen: set[ContentKey],
    experience: Experience,
) -> _Stage:
    rows, places = _calls(planned, stage.id, seen)
    output_tokens = (experience.output_tokens.get(stage.id) or length_prior(stage.sampling.max_tokens)).mean
    return _Stage(stage.model, blocks, rows, rows + before, places + before, output_tokens, by_tokenizer)


def _calls(planned: PlannedPart, stage: StageId, seen: set[ContentKey]) -> tuple[Ids, Ids]:
    """For each work that no earlier stage asks for: its first row, and the first place of its rows in the order."""
    place = np.empty(len(planned.order), np.int64)
    place[np.asarray(planned.order, np.int64)] = np.arange(len(planned.order))
    grouping = planned.groups.get(stage)
    if grouping is None:
        return np.arange(len(place)), place
    of_row = np.asarray(grouping.group_of_row, np.int64)
    earliest = np.full(len(grouping.keys), len(place), np.int64)
    np.minimum.at(earliest, of_row, place)
    new = np.asarray([key not in seen for key in grouping.keys], bool)
    seen.update(grouping.keys)
    return number_groups(grouping).firsts[new], earliest[new]


def _saving(model: str, stages: Sequence[_Stage], kv_tokens: float | None) -> PrefixSaving:
    blocks = joined([stage.blocks.of_rows(stage.rows) for stage in stages])
    tree = PrefixTree(blocks)
    groups = enlarged(tree)
    room = float("inf") if kv_tokens is None else kv_tokens
    longest_answer = max(stage.output_tokens for stage in stages)
    return PrefixSaving(
        model,
        len(blocks),
        blocks.prompt_tokens,
        kv_tokens,
        blocks.prompt_tokens - tree.distinct_tokens,
        replay(tree, _in_order([stage.planned for stage in stages]), room),
        replay(tree, _in_order([stage.arrival for stage in stages]), room),
        _saved(first_level(tree)),
        _saved(groups),
        len(groups),
        groups_at_once(groups, longest_answer, room),
        _counted(stages),
    )


def _in_order(places: Sequence[Ids]) -> list[int]:
    """The calls of all stages by place; at one place the earlier stage comes first."""
    order: list[int] = np.argsort(np.concatenate(places), kind="stable").tolist()
    return order


def _saved(groups: Sequence[Group]) -> float:
    return sum(group.saved_tokens for group in groups)


def _counted(stages: Sequence[_Stage]) -> Literal["tokens", "characters", "both"]:
    ways = {stage.by_tokenizer for stage in stages}
    if len(ways) == 2:
        return "both"
    return "tokens" if ways == {True} else "characters"
