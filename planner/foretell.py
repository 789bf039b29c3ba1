"""All that can be said of a job before it runs, for a fleet: what EXPLAIN tells, and what EXPLAIN ANALYZE holds a run
against. Deterministic: the same job and fleet give the same forecast, before the run and after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.explain import explain
from planner.explanation import Explanation
from planner.job import JobPart, JobPlan
from planner.optimize import optimize
from planner.placement.place import place
from planner.prefix.saving import PrefixSaving, prefix_savings
from planner.prefix.texts import Cut
from planner.timing import PricedEngine, with_times

#: Beyond so many calls the prompts are not replayed: it would take longer than people wait.
MOST_REPLAYED = 60_000


@dataclass(frozen=True, slots=True)
class Forecast:
    explanation: Explanation
    job_plan: JobPlan


def foretell(
    parts: Sequence[JobPart],
    fleet: Sequence[PricedEngine] = (),
    origin: str = "",
    *,
    counted: Sequence[JobPart] = (),
    cut: Cut | None = None,
    kv_tokens: Mapping[str, float] | None = None,
    job_plan: JobPlan | None = None,
) -> Forecast:
    """`origin` says where the engines come from. Without a fleet there are no times, and no placement.

    `job_plan` is what `optimize` made of the parts, where somebody has asked it already.

    What prompts share is told of `counted`, the same parts with the tokens of their prompts, where a tokenizer was
    asked; `cut` is what it told of other texts, and `kv_tokens` the room of engines of a model that told.
    """
    job_plan = job_plan or optimize(parts)
    explanation = explain(parts, job_plan)
    explanation = replace(
        explanation, prefixes=_prefixes(counted or parts, job_plan, explanation, fleet, cut, kv_tokens)
    )
    if fleet:
        explanation = with_times(explanation, fleet, origin)
        placement = place(explanation, fleet, _names(fleet))
        assumptions = (*explanation.assumptions, *placement.assumptions)
        explanation = replace(explanation, placement=placement, assumptions=assumptions)
    return Forecast(explanation, job_plan)


def _names(fleet: Sequence[PricedEngine]) -> Sequence[str]:
    """All or none."""
    return [engine.name for engine in fleet] if all(engine.name for engine in fleet) else ()


def _prefixes(
    parts: Sequence[JobPart],
    job_plan: JobPlan,
    explanation: Explanation,
    fleet: Sequence[PricedEngine],
    cut: Cut | None,
    kv_tokens: Mapping[str, float] | None,
) -> tuple[PrefixSaving, ...]:
    if explanation.distinct_calls.high > MOST_REPLAYED:
        return ()
    models = dict.fromkeys(stage.does for stage in explanation.stages if stage.asks_model)
    room = {model: [engine.kv_tokens(model) for engine in fleet if engine.serves(model)] for model in models}
    believed = {model: float(max(found)) for model, found in room.items() if found}
    return prefix_savings(parts, job_plan, {**believed, **(kv_tokens or {})}, cut)
