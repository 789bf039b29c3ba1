"""All that can be said of a job before it runs, for a fleet: what EXPLAIN tells, and what EXPLAIN ANALYZE holds a run
against. Deterministic: the same job, fleet and experience give the same forecast, before the run and after it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.explain import explain
from planner.explanation import Explanation
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.job import JobPart, JobPlan
from planner.optimize import optimize
from planner.placement.place import place
from planner.prefix.saving import prefix_savings
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
    experience: Experience = NO_EXPERIENCE,
) -> Forecast:
    """`origin` says where the engines come from. Without a fleet there are no times, and no placement.

    `job_plan` is what `optimize` made of the parts, where somebody has asked it already.

    What prompts share is told of `counted`, the same parts with the tokens of their prompts, where a tokenizer was
    asked; `cut` is what it told of other texts, and `kv_tokens` the room of engines of a model that told.

    `experience` is what earlier runs of the parts' one plan took. A token has as many characters as `cut` says, else
    `experience`, else what the engines' profiles were measured with.
    """
    job_plan = job_plan or optimize(parts)
    experience = replace(experience, chars_per_token=_chars_per_token(cut, experience, fleet))
    cut = replace(cut or Cut(), chars_per_token=experience.chars_per_token)
    explanation = explain(parts, job_plan, experience)
    explanation = replace(explanation, notes=tuple(_notes(explanation)))
    if not explanation.notes:
        room = _room(explanation, fleet) | dict(kv_tokens or {})
        savings = prefix_savings(counted or parts, job_plan, room, cut, experience)
        explanation = replace(explanation, prefixes=savings)
    if fleet:
        explanation = with_times(explanation, fleet, origin)
        tool_s = _tool_seconds(explanation, experience)
        placement = place(explanation, fleet, _names(fleet), tool_s=tool_s)
        assumptions = (*explanation.assumptions, *placement.assumptions)
        explanation = replace(explanation, placement=placement, assumptions=assumptions)
    return Forecast(explanation, job_plan)


def _chars_per_token(cut: Cut | None, experience: Experience, fleet: Sequence[PricedEngine]) -> float:
    told = [cut.chars_per_token if cut else CHARS_PER_TOKEN, experience.chars_per_token]
    profiles = [engine.profile.chars_per_token for engine in fleet if engine.profile is not None]
    told += [fmean(profiles)] if profiles else []
    return next((chars for chars in told if chars != CHARS_PER_TOKEN), CHARS_PER_TOKEN)


def _notes(explanation: Explanation) -> Iterator[str]:
    if (calls := explanation.distinct_calls.high) > MOST_REPLAYED:
        yield (
            f"what prompts share in an order is not told: up to {calls:,.0f} calls would have to be replayed,"
            f" and that is done for at most {MOST_REPLAYED:,}"
        )


def _room(explanation: Explanation, fleet: Sequence[PricedEngine]) -> dict[str, float]:
    """What one engine of each model is believed to hold, in tokens."""
    models = dict.fromkeys(stage.does for stage in explanation.stages if stage.asks_model)
    room = {model: [engine.kv_tokens(model) for engine in fleet if engine.serves(model)] for model in models}
    return {model: float(max(found)) for model, found in room.items() if found}


def _tool_seconds(explanation: Explanation, experience: Experience) -> dict[str, float]:
    """What one run of each tool takes, over the stages that run it."""
    found: dict[str, list[float]] = {}
    for stage in explanation.stages:
        if stage.path in experience.tool_s:
            found.setdefault(stage.does, []).append(experience.tool_s[stage.path].mean)
    return {tool: fmean(seconds) for tool, seconds in found.items()}


def _names(fleet: Sequence[PricedEngine]) -> Sequence[str]:
    """All or none."""
    return [engine.name for engine in fleet] if all(engine.name for engine in fleet) else ()
