"""What programs ask for: as a stored job recorded it, or as the planner forecasts it of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from halo.analysis import Recorded
from halo.fleet.workload_file import WorkloadInvalid
from planner.cost.experience import seen_as
from planner.cost.history import stage_of
from planner.errors import Problem
from planner.explanation import Explanation, Span, StageForecast
from planner.fleet.workload import CallClass, Workload
from planner.ir.codec import decode
from planner.ir.plan import Agent, Generate, Plan
from planner.ir.sites import walk
from planner.measured import How, Tally


def workload_of_job(recorded: Recorded, programs_per_s: float | None = None) -> Workload:
    """Of a job that was run: what its calls took, at the rate at which its programs ended, unless another is given.

    Raises `WorkloadInvalid` where no call was made.
    """
    made = [tally for tally in recorded.tallies if tally.how is How.MADE and tally.calls]
    ended = recorded.record.rows - recorded.record.counts["pending"]
    if not made or not ended:
        raise _nothing(f"job {recorded.record.id}", "no call of it has ended", "name a job whose calls went to engines")
    calls = tuple(_recorded_calls(decode(recorded.definition.plan), made, ended))
    rate = programs_per_s or ended / max(1e-3, _seconds(made))
    origin = f"as job {recorded.record.id} recorded it over {ended:,} programs"
    return Workload(rate, calls, origin).of_tenant(recorded.record.tenant)


def workload_of_forecast(explanation: Explanation, programs_per_s: float) -> Workload:
    """Of rows that have not run: the middle of what is forecast, with the best prefix cache.

    Raises `WorkloadInvalid` where no call is forecast.
    """
    rows = sum(explanation.rows)
    asking = [stage for stage in explanation.stages if stage.asks_model and stage.distinct.high > 0]
    if not asking or not rows:
        raise _nothing("the rows", "no model is asked", "name a workflow that calls one")
    calls = tuple(_forecast_call(stage, rows) for stage in asking)
    return Workload(programs_per_s, calls, f"as forecast for {rows:,} rows")


@dataclass(frozen=True, slots=True)
class _Asking:
    """A stage that asks a model; what is `in_rounds` waits for itself."""

    model: str
    in_rounds: bool


def _asking(plan: Plan) -> Mapping[str, _Asking]:
    """By the names under which calls are counted together: items and rounds as one."""
    found = {}
    for site in walk(plan):
        if isinstance(site.stage, Generate | Agent):
            found[stage_of(seen_as(site))] = _Asking(site.stage.model, "#" in seen_as(site))
    return found


def _recorded_calls(plan: Plan, made: Sequence[Tally], programs: int) -> Iterator[CallClass]:
    asking, sums = _asking(plan), dict[str, Tally]()
    for tally in made:
        name = stage_of(tally.path)
        sums[name] = _added(sums[name], tally) if name in sums else tally
    for name, tally in sums.items():
        if name in asking:
            yield _recorded_call(name, asking[name], tally, programs)


def _recorded_call(name: str, stage: _Asking, tally: Tally, programs: int) -> CallClass:
    per_program = tally.calls / programs
    prompt = max(1.0, tally.prompt_tokens / tally.calls)
    return CallClass(
        name,
        stage.model,
        prompt,
        max(1.0, tally.output_tokens / tally.calls),
        per_program,
        min(prompt, tally.cached_tokens / tally.calls),
        per_program if stage.in_rounds else min(1.0, per_program),
    )


def _added(one: Tally, other: Tally) -> Tally:
    return replace(
        one,
        calls=one.calls + other.calls,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
    )


def _seconds(made: Sequence[Tally]) -> float:
    begun = [tally.first_begun_at for tally in made if tally.first_begun_at is not None]
    ended = [tally.last_ended_at for tally in made if tally.last_ended_at is not None]
    return max(ended) - min(begun) if begun and ended else 0.0


def _forecast_call(stage: StageForecast, rows: int) -> CallClass:
    calls = _middle(stage.distinct)
    prompt = max(1.0, _middle(stage.merged_tokens) / calls)
    in_rounds = stage.kind == "agent" or "#" in stage.path
    per_program = calls / rows
    return CallClass(
        stage.path,
        stage.does,
        prompt,
        max(1.0, _middle(stage.output_tokens) / calls),
        per_program,
        min(prompt, stage.shared_tokens / calls),
        per_program if in_rounds else min(1.0, per_program),
    )


def _middle(span: Span) -> float:
    return (span.low + span.high) / 2


def _nothing(where: str, what: str, fix: str) -> WorkloadInvalid:
    return WorkloadInvalid((Problem(where, what, fix),))
