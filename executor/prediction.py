"""How long a job will last: it is run in virtual time, by the very core that will run it, on engines as measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean

from executor.core.limits import Limits
from executor.drivers.foreseen import Foreseen
from executor.drivers.simulated import Arrival, SimulatedJob, Simulation
from executor.engines.model.profiles import profile_of
from executor.engines.port import EngineSpec, Failure
from executor.planning import plan_batch
from executor.tool_pools import ToolPool
from planner.cost.experience import experience_of
from planner.cost.history import NO_HISTORY, History
from planner.cost.quantiles import Quantiles
from planner.ir.ids import JobId
from planner.ir.plan import Generate, Plan
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.table import Table

#: A job of more calls is foreseen by a sample of its rows.
MOST_CALLS = 2000
DRAWS = 5
_ROWS_FOR_TEXT = 16
_JOB = JobId("foreseen")


@dataclass(frozen=True, slots=True)
class Foresight:
    """One job in virtual time. `failed` is the share of its rows that failed there: what was made up did not do."""

    seconds: float
    calls: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    failed: float


@dataclass(frozen=True, slots=True)
class Makespan:
    """From the job's begin to its end. The range holds what may be drawn, and how far off the engines' profiles are.

    `rows` of them were played through; the means are of all of the job.
    """

    seconds: Quantiles
    rows: int
    calls: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    failed: float


async def predict_makespan(
    plan: Plan,
    table: Table,
    fleet: Sequence[EngineSpec],
    history: History = NO_HISTORY,
    limits: Limits | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    tools: Mapping[str, ToolPool] | None = None,
    tenant: str = "",
) -> Makespan:
    """What the tenant's run of all rows will take of `fleet`, whose engines are as fast as their profiles say; those
    that are kept for others are left alone.

    Tools run in the pools of `tools` (`executor.tool_pools`), and wait for their turn there. Lengths, answers and tools
    are drawn from `history`, `draws` times. No model and no tool is asked. A large job is
    drawn by two samples of its rows, and drawn out along the line through both by the work it has.
    """
    rows = _rows_to_play(plan, table)
    fleet = [replace(spec, tenants=()) for spec in fleet if spec.serves_tenant(tenant)]
    fleet = await _with_text_lengths(plan, table, fleet, history, limits)
    found = [await _foresee(plan, table, rows, fleet, history, limits, seed + draw, tools) for draw in range(draws)]
    doubt = max((profile_of(spec).error or 0.0 for spec in fleet), default=0.0)
    seconds = sorted(one.seconds for one in found)
    drawn = Quantiles(*(_between(seconds, share) for share in (0.1, 0.5, 0.9)))
    return Makespan(
        Quantiles(drawn.p10 * max(0.0, 1 - doubt), drawn.p50, drawn.p90 * (1 + doubt)),
        rows,
        calls=fmean(one.calls for one in found),
        prompt_tokens=fmean(one.prompt_tokens for one in found),
        cached_tokens=fmean(one.cached_tokens for one in found),
        output_tokens=fmean(one.output_tokens for one in found),
        failed=fmean(one.failed for one in found),
    )


def _rows_to_play(plan: Plan, table: Table) -> int:
    calls_a_row = max(1, sum(1 for stage in plan.stages if stage.kind != "join"))
    return min(table.rows, max(8, MOST_CALLS // calls_a_row))


async def _foresee(
    plan: Plan,
    table: Table,
    rows: int,
    fleet: Sequence[EngineSpec],
    history: History,
    limits: Limits | None,
    seed: int,
    tools: Mapping[str, ToolPool] | None,
) -> Foresight:
    if rows == table.rows:
        return await _play(plan, table, fleet, history, limits, seed, tools)
    drawn = Random(seed).sample(range(table.rows), rows)
    samples = [_part_of(plan, table, sorted(drawn[:count])) for count in (rows // 2, rows)]
    half, whole = [await _play(plan, sample, fleet, history, limits, seed, tools) for sample in samples]
    less, more, all_of_it = (_work(plan, one) for one in (*samples, table))
    return _drawn_out(half, whole, (all_of_it - more) / max(1, more - less))


async def _play(
    plan: Plan,
    table: Table,
    fleet: Sequence[EngineSpec],
    history: History,
    limits: Limits | None,
    seed: int,
    tools: Mapping[str, ToolPool] | None,
) -> Foresight:
    world = Foreseen(history, seed, _chars_per_token(fleet))
    lengths = experience_of(plan, history).output_tokens
    arrival = Arrival(0.0, _JOB, plan, table, lengths=lengths)
    jobs = await Simulation(fleet, world, limits, tool_pools=tools).run([arrival])
    return _foresight(jobs[_JOB], table.rows)


async def _with_text_lengths(
    plan: Plan, table: Table, fleet: Sequence[EngineSpec], history: History, limits: Limits | None
) -> Sequence[EngineSpec]:
    """The engines, with the characters a token has in this workflow's prompts: figures and code have fewer than prose.

    Nobody has stored how long prompts were, but how many tokens they were: a few rows are played for the characters.
    """
    if not history.by_stage:
        return fleet
    world = Foreseen(history, 0, _chars_per_token(fleet))
    few = _part_of(plan, table, range(min(table.rows, _ROWS_FOR_TEXT)))
    await Simulation(fleet, world, limits).run([Arrival(0.0, _JOB, plan, few)])
    asked, characters, tokens = 0, 0, 0.0
    for stage, (prompts, length) in world.asked.items():
        if seen := [one.prompt_tokens for one in history.of(stage) if one.prompt_tokens]:
            asked, characters, tokens = asked + prompts, characters + length, tokens + prompts * fmean(seen)
    return [_with_text_length(spec, asked, characters, tokens) for spec in fleet]


def _with_text_length(spec: EngineSpec, prompts: int, characters: int, tokens: float) -> EngineSpec:
    profile = profile_of(spec)
    of_text = tokens - prompts * profile.template_tokens
    if characters <= 0 or of_text <= 0:
        return spec
    return replace(spec, profile=replace(profile, chars_per_token=characters / of_text))


def _chars_per_token(fleet: Sequence[EngineSpec]) -> float:
    return fmean(profile_of(spec).chars_per_token for spec in fleet) if fleet else CHARS_PER_TOKEN


def _foresight(job: SimulatedJob, rows: int) -> Foresight:
    progress = job.progress
    return Foresight(
        max(job.ended_at.values(), default=0.0),
        progress.calls,
        progress.prompt_tokens,
        progress.cached_tokens,
        progress.output_tokens,
        sum(isinstance(result, Failure) for result in job.results.values()) / max(1, rows),
    )


def _part_of(plan: Plan, table: Table, rows: Sequence[int]) -> Table:
    return Table.from_rows([table.row(row) for row in rows], plan.inputs)


def _work(plan: Plan, table: Table) -> int:
    """The calls that planning knows of: one for each group of equal ones, or for each row."""
    planned = plan_batch(_JOB, plan, table, 0.0)
    stages = [stage for stage in planned.plan.stages if isinstance(stage, Generate)]
    counted = [len(planned.groups[stage.id].keys) if stage.id in planned.groups else table.rows for stage in stages]
    return sum(counted) or table.rows


def _drawn_out(half: Foresight, whole: Foresight, times: float) -> Foresight:
    """Along the line through both, `times` their distance beyond the second."""

    def beyond(name: str) -> float:
        before, at = float(getattr(half, name)), float(getattr(whole, name))
        return at + times * max(0.0, at - before)

    names = ("seconds", "calls", "prompt_tokens", "cached_tokens", "output_tokens")
    return replace(whole, **{name: beyond(name) for name in names})


def _between(ordered: Sequence[float], share: float) -> float:
    """The quantile of `share`, straight between the two nearest."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
