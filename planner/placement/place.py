"""Where a job's stages run: the answer to EXPLAIN, and shares that routing may follow."""

from collections.abc import Mapping, Sequence

from planner.explanation import Explanation
from planner.placement.of_job import ASSUMPTIONS, PlacedJob, problem_of
from planner.placement.placement import EngineUse, ModelSwitch, Placement, Share, StagePlacement
from planner.placement.problem import Problem
from planner.placement.schedule import Run, Schedule
from planner.placement.search import Budget
from planner.placement.solve import solved
from planner.timing import PricedEngine

_MOMENT_PIECES = 250_000  # micro-batches that are put in about a second
_LARGE = 16  # engines: with more of them there is more to share out, and the first tenth of a second leaves too much


def place(
    explanation: Explanation,
    fleet: Sequence[PricedEngine],
    names: Sequence[str] = (),
    budget: Budget | None = None,
    seed: int = 0,
    tool_s: Mapping[str, float] | None = None,
) -> Placement:
    """The placement of an explained job on `fleet`, whose engines are called `names` (else after their GPUs).

    It takes as long as `budget` says and some milliseconds more, all of it computing: a driver calls it in a thread.
    Without one, it does what takes about `usual_s`; and without a clock in it, the same arguments give the same
    placement. `tool_s` are seconds of one call by the tool's name. Stages whose model no engine serves are told and
    left out.
    """
    job = problem_of(explanation, fleet, names, tool_s)
    if not job.sites:
        return Placement((), (), (), 0.0, 0.0, job.unplaced, ASSUMPTIONS)
    found = solved(job.problem, budget or _moment(job.problem), seed)
    return _placement(job, found.schedule, found.bound_s)


def usual_s(engines: int) -> float:
    """How long is looked for a better placement on so many engines, unless told."""
    return 0.1 if engines <= _LARGE else 0.5


def _moment(problem: Problem) -> Budget:
    pieces = _MOMENT_PIECES * usual_s(len(problem.engines))
    return Budget(rounds=max(1, int(pieces) // (len(problem.operators) * problem.batches)))


def _placement(job: PlacedJob, schedule: Schedule, bound_s: float) -> Placement:
    problem = job.problem
    of_operators: list[list[Run]] = [[] for _ in problem.operators]
    for run in schedule.runs:
        of_operators[run.operator].append(run)
    stages = tuple(_stage(job, o, runs, schedule.makespan_s) for o, runs in enumerate(of_operators))
    switches = tuple(
        ModelSwitch(
            problem.engines[load.engine].name,
            problem.models[load.model].name,
            load.start_s,
            load.end_s - load.start_s,
            tuple(problem.models[model].name for model in load.evicts),
        )
        for load in schedule.loads
    )
    engines = tuple(_use(problem, schedule, g) for g in range(len(problem.engines)))
    return Placement(stages, switches, engines, schedule.makespan_s, bound_s, job.unplaced, ASSUMPTIONS)


def _stage(job: PlacedJob, o: int, runs: Sequence[Run], makespan_s: float) -> StagePlacement:
    problem, site = job.problem, job.sites[o]
    counts = [0] * len(problem.engines)
    for run in runs:
        counts[run.engine] += 1
    chosen = [g for g, count in enumerate(counts) if count]
    return StagePlacement(
        plan=site.plan,
        path=site.path,
        does=site.does,
        calls=site.calls,
        shares=tuple(Share(problem.engines[g].name, counts[g] / problem.batches) for g in chosen),
        work_s=sum(run.end_s - run.start_s for run in runs),
        starts_s=min(run.start_s for run in runs),
        ends_s=max(run.end_s + problem.operators[o].lag_s[run.engine] for run in runs),
        reason=_reason(problem, o, chosen, makespan_s),
    )


def _reason(problem: Problem, o: int, chosen: Sequence[int], makespan_s: float) -> str:
    operator = problem.operators[o]
    able = [g for g in range(len(problem.engines)) if problem.can_run(o, g)]
    if operator.model is None:
        return "its own pool"
    if len(able) == 1:
        return "no other engine has the model"
    least = min(operator.work_s[g] for g in able)
    if len(chosen) > 1:
        share = least / makespan_s if makespan_s else 0.0
        return f"split: the quickest engine alone would take {least:,.0f} s, {share:.0%} of the whole job"
    slower = operator.work_s[chosen[0]] / least if least else 1.0
    if slower < 1.01:
        return "the quickest engine for it"
    return f"takes {slower:.1f} times the quickest engine's time, which others need more"


def _use(problem: Problem, schedule: Schedule, g: int) -> EngineUse:
    busy_s = sum(run.end_s - run.start_s for run in schedule.runs if run.engine == g)
    loading_s = sum(load.end_s - load.start_s for load in schedule.loads if load.engine == g)
    return EngineUse(problem.engines[g].name, busy_s, loading_s)
