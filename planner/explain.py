"""EXPLAIN: what a job will ask for, before any call is made (DESIGN section 4)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.cost.quantiles import length_prior
from planner.draft import one_object_per_plan
from planner.estimate import TOOL_OUTPUT_TOKENS, Estimates, assumptions
from planner.explanation import NOTHING, Explanation, Span, StageForecast
from planner.ir.evaluate import EvaluationFailed, evaluate, no_output
from planner.ir.expressions import Array, Column, Const
from planner.ir.ids import ContentKey, StageId
from planner.ir.keys import is_fixed
from planner.ir.plan import Agent, Choose, Generate, Loop, Map, Plan, Stage, Tool
from planner.ir.sites import bodies_at
from planner.ir.values import Json
from planner.job import Change, Grouping, JobPart, JobPlan, PlannedPart
from planner.joining import join_parts
from planner.numbering import Numbers, number_groups, number_values
from planner.prefix_trie import PrefixTrie, PromptTokens
from planner.prompts import prompts_of, role_marker
from planner.segments import Segments
from planner.sql.forecast import least_statements


def explain(parts: Sequence[JobPart], job_plan: JobPlan, experience: Experience = NO_EXPERIENCE) -> Explanation:
    """What `parts` ask for as written and as `job_plan`, which `optimize` made of them, will have it run.

    Calls are exact for stages outside bodies whose work is known before the run, and bounds elsewhere. Tokens are
    estimates, from `experience` of the plan's earlier runs where there is one; the result says on which assumptions.
    Retries are not counted.
    """
    report = job_plan.report
    parts, job_plan = join_parts(parts, job_plan)
    surveys = _survey(parts, job_plan, experience)
    plans = one_object_per_plan([part.plan for part in parts])
    numbers = {number: index for index, number in enumerate(dict.fromkeys(map(id, plans)))}
    stages: dict[tuple[int, str], StageForecast] = {}
    rows = [0] * len(numbers)
    for plan, part, survey in zip(plans, parts, surveys, strict=True):
        number = numbers[id(plan)]
        rows[number] += part.table.rows
        for forecast in survey.forecasts(number, plan):
            key = number, forecast.path
            stages[key] = _add(stages[key], forecast) if key in stages else forecast
    distinct_plans = tuple({id(plan): plan for plan in plans}.values())
    in_order = tuple(stages[key] for key in sorted(stages, key=lambda key: key[0]))
    return Explanation(distinct_plans, tuple(rows), in_order, report, tuple(assumptions(experience)))


def _add(left: StageForecast, right: StageForecast) -> StageForecast:
    return replace(
        left,
        calls=left.calls + right.calls,
        distinct=left.distinct + right.distinct,
        prompt_tokens=left.prompt_tokens + right.prompt_tokens,
        merged_tokens=left.merged_tokens + right.merged_tokens,
        shared_tokens=left.shared_tokens + right.shared_tokens,
        output_tokens=left.output_tokens + right.output_tokens,
    )


def _survey(parts: Sequence[JobPart], job_plan: JobPlan, experience: Experience) -> list["_Survey"]:
    """One survey a part. Works count as new where no earlier part asks for them; all parts share one trie."""
    changes = _changes_by_part(job_plan)
    seen: set[ContentKey] = set()
    surveys = [
        _Survey(part, planned, changes.get(index, ()), seen, experience)
        for index, (part, planned) in enumerate(_pairs(parts, job_plan))
    ]
    trie = PrefixTrie()
    added = [(survey, path) for survey in surveys for path in survey.add_prompts(trie)]
    for (survey, path), tokens in zip(added, trie.measure(), strict=True):
        survey.prompts[path] = tokens
    return surveys


def _pairs(parts: Sequence[JobPart], job_plan: JobPlan) -> Iterator[tuple[JobPart, PlannedPart]]:
    return zip(parts, job_plan.parts, strict=True)


def _changes_by_part(job_plan: JobPlan) -> dict[int, list[Change]]:
    changes: dict[int, list[Change]] = {}
    for report in job_plan.report:
        for change in report.changes:
            for part in change.parts:
                changes.setdefault(part, []).append(change)
    return changes


@dataclass(frozen=True, slots=True)
class _Scope:
    """A plan or body being walked: how often it runs, as written and after merging, and how long its columns are."""

    prefix: str
    runs: Span
    distinct: Span
    column_tokens: Mapping[str, float]


class _Survey:
    """One part: which of its works are new, and what its prompts come to."""

    def __init__(
        self,
        part: JobPart,
        planned: PlannedPart,
        changes: Sequence[Change],
        seen: set[ContentKey],
        experience: Experience,
    ) -> None:
        self._rows = part.table.rows
        self._table = part.table
        self._planned = planned
        self._segments = Segments(planned.plan, part.table, planned.groups, experience)
        self._estimates = Estimates(experience)
        self._notes = {change.path: _note(change) for change in changes}
        self._gone = {change.path for change in changes if change.what != "kept"}
        self._new_rows = {stage: _new_rows(grouping, seen) for stage, grouping in planned.groups.items()}
        self.prompts: dict[str, PromptTokens] = {}

    def add_prompts(self, trie: PrefixTrie) -> Iterator[str]:
        """Adds the prompts of the outermost stages to `trie`, telling their paths in the same order."""
        outermost = {stage.id for stage in self._planned.plan.stages}
        for prompt in prompts_of(self._planned.plan):
            if prompt.path in outermost:
                trie.add(prompt, self._segments, self._rows_run(prompt.stage.id))
                yield prompt.path

    def forecasts(self, number: int, plan: Plan) -> Iterator[StageForecast]:
        """All stages of the plan as written, for this part."""
        runs = Span(self._rows, self._rows)
        return self._walk(number, plan, _Scope("", runs, runs, self._segments.column_tokens))

    def _walk(self, number: int, plan: Plan, scope: _Scope) -> Iterator[StageForecast]:
        outputs = self._estimates.outputs(plan, scope.column_tokens, scope.prefix)
        for stage in plan.stages:
            path = scope.prefix + stage.id
            distinct = self._distinct(stage, path, scope)
            yield self._forecast(number, stage, path, replace(scope, distinct=distinct), outputs)
            for index, (prefix, body) in enumerate(bodies_at(path, stage)):
                columns = self._estimates.body_columns(stage, body, scope.column_tokens, outputs)
                as_written, merged = self._times(stage, index, scope, distinct)
                yield from self._walk(number, body.plan, _Scope(prefix, as_written, merged, columns))

    def _forecast(
        self, number: int, stage: Stage, path: str, scope: _Scope, outputs: Mapping[StageId, float]
    ) -> StageForecast:
        turns = Span(1, stage.max_turns) if isinstance(stage, Agent) else Span(1, 1)
        written = merged = NOTHING
        if isinstance(stage, Generate | Agent):
            opening = self._opening(stage, scope.column_tokens, outputs)
            written = scope.runs * _tokens_a_run(stage, opening)
            merged = scope.distinct * _tokens_a_run(stage, opening)
        known = self.prompts.get(path, PromptTokens(0.0, 0.0))
        if isinstance(stage, Generate) and path in self.prompts and scope.distinct.low == scope.distinct.high:
            merged = Span(known.tokens, known.tokens)
        return StageForecast(
            number,
            path,
            stage.kind,
            _does(stage),
            scope.runs * turns,
            scope.distinct * turns,
            written,
            merged,
            known.shared_tokens,
            self._notes.get(path) or _batches(stage, scope.distinct),
            scope.distinct * turns * self._answer(stage, path),
        )

    def _distinct(self, stage: Stage, path: str, scope: _Scope) -> Span:
        """How often the stage runs after merging; a fixed call may meet its equal when the run comes to it."""
        if path in self._gone:
            return NOTHING
        if not scope.prefix and stage.id in self._new_rows:
            works = len(self._new_rows[stage.id])
            return Span(works, works)
        if isinstance(stage, Generate | Tool | Agent) and is_fixed(stage):
            return Span(min(1, scope.distinct.low), scope.distinct.high)
        return scope.distinct

    def _opening(
        self, stage: Generate | Agent, columns: Mapping[str, float], outputs: Mapping[StageId, float]
    ) -> float:
        """The tokens of the stage's messages."""
        told = [expr for message in stage.messages for expr in (role_marker(message), message.content)]
        return sum(self._estimates.expression(expr, columns, outputs) for expr in told)

    def _answer(self, stage: Stage, path: str) -> Span:
        """The tokens of one call's answer."""
        if not isinstance(stage, Generate | Agent):
            return NOTHING
        seen = self._estimates.experience.output_tokens.get(path)
        length = seen or length_prior(stage.sampling.max_tokens)
        return Span(length.p10, length.p90)

    def _rows_run(self, stage: StageId) -> Numbers:
        return self._new_rows.get(stage, np.arange(self._rows))

    def _times(self, stage: Stage, index: int, scope: _Scope, distinct: Span) -> tuple[Span, Span]:
        """How often a body of the stage runs, as written and after merging."""
        if isinstance(stage, Map) and isinstance(stage.over, Column) and not scope.prefix:
            items = self._items_of_rows(stage.over)
            as_written, merged = int(items.sum()), int(items[self._rows_run(stage.id)].sum())
            at_least = merged if distinct.low == distinct.high else 0
            return Span(as_written, as_written), Span(at_least, merged) if distinct.high else NOTHING
        times = _times_a_run(stage)
        return scope.runs * times, distinct * times

    def _items_of_rows(self, over: Column) -> Numbers:
        cells = self._table.columns[over.name]
        numbering = number_values(cells)
        items: Numbers = np.asarray([_item_count(over, cells[row]) for row in numbering.firsts.tolist()], np.int64)
        items_of_row: Numbers = items[numbering.of_row]
        return items_of_row


def _new_rows(grouping: Grouping, seen: set[ContentKey]) -> Numbers:
    """The first row of each group whose work nobody has asked for yet."""
    firsts = number_groups(grouping).firsts
    new = np.asarray([key not in seen for key in grouping.keys], bool)
    seen.update(grouping.keys)
    new_firsts: Numbers = firsts[new]
    return new_firsts


def _item_count(over: Column, cell: Json) -> int:
    """What is no list fails before it runs a body."""
    try:
        items = evaluate(over, {over.name: cell}, no_output)
    except EvaluationFailed:
        return 0
    return len(items) if isinstance(items, list) else 0


def _times_a_run(stage: Stage) -> Span:
    """How often each body runs when its stage runs once."""
    match stage:
        case Choose(cases=cases):
            return Span(0, 1) if cases else Span(1, 1)
        case Map(over=Array(items=items)):
            return Span(len(items), len(items))
        case Map(over=Const(value=list() as items)):
            return Span(len(items), len(items))
        case Map(max_items=most):
            return Span(0, most)
        case Loop(max_rounds=most):
            return Span(0, most)
        case _:
            return Span(1, 1)


def _tokens_a_run(stage: Generate | Agent, opening: float) -> Span:
    """An agent sends its whole conversation with each turn; a turn adds an answer and what a tool gave back."""
    if isinstance(stage, Generate):
        return Span(opening, opening)
    turns, turn_tokens = stage.max_turns, stage.sampling.max_tokens + TOOL_OUTPUT_TOKENS
    return Span(opening, turns * opening + turn_tokens * turns * (turns - 1) / 2)


def _does(stage: Stage) -> str:
    match stage:
        case Generate(model=model) | Agent(model=model):
            return model
        case Tool(tool=tool):
            return tool.name
        case _:
            return ""


def _batches(stage: Stage, distinct: Span) -> str:
    """What a tool that takes many calls at once makes of them."""
    if not isinstance(stage, Tool) or stage.tool.max_batch == 1 or distinct.high <= 1:
        return ""
    least = least_statements(stage.tool, ceil(distinct.low))
    return f"in batches: at least {least:,} {'run' if least == 1 else 'runs'}"


def _note(change: Change) -> str:
    match change.what:
        case "dropped":
            return "dropped: nobody reads it"
        case "merged":
            return f"merged into {change.detail}"
        case "kept":
            return f"kept: {change.detail}"
