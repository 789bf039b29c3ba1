"""How far off the predicted makespan of a job is, on the real CPU vLLM.

    python -m benchmarks.planner.makespan [--jobs diamond:32,prefix:80] [--rounds 5] [--profile-seconds 60]
        [--out FILE.json]

For each job: smaller jobs of the same workflow over other rows are run before, for what the store then knows of
lengths, of answers and of tools. Then, interleaved over the rounds, each job is run over rows of its own, from the
accepted job to the last committed row, on an engine whose prefix cache is empty, and run again with the same rows: that
is the noise.
Predicted is each of these runs by itself, before it, in virtual time (`executor.prediction`), three times:

- `shipped`: the engine is as fast as the `cpu` profile that Halo ships;
- `profiled`: as fast as `halo engines profile` measured it at the start;
- `calibrated`: that, and by how much the small jobs before were off (`executor.hindsight`).

No job is part of a fit: profiles come from calls made for that alone, and the small jobs have other rows. The error of
a job is the median of its predictions by the median of its runs, less 1; `least` is by the lower quartile of its runs,
which what else the machine does disturbs less. Targets: 15 % shipped, 8 % calibrated, of the median. Needs
`make engine`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.planner import prefix
from benchmarks.planner.plan_batch_cells import MODELS, Cell, databases_for, recipe, rows_of, workflow_of
from executor.engines.local_recipe import free_port
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import EngineSpec
from executor.hindsight import MOST_JOBS, NO_HINDSIGHT, Earlier, Hindsight, earlier_jobs, hindsight_of
from executor.prediction import predict_makespan
from executor.store.jobs import NewJob
from executor.tool_pools import tool_pools
from halo.cli.profile import Measured, measure
from halo.event_loop import run_async
from halo.sdk.workflow import Workflow
from halo.wiring import Runtime, open_runtime
from planner.cost.history import NO_HISTORY, History, history_of
from planner.cost.profile import Profile
from planner.ir.codec import encode
from planner.ir.ids import JobId
from planner.ir.values import Json
from planner.table import Table
from workloads.rows.draw_rows import Row

JOBS = "diamond:16,diamond:32,text2sql:32,debate:24,prefix:80"
PREFIX = "prefix"
ANSWER_TOKENS, DRAWS = 24, 3
WAYS = ("shipped", "profiled", "calibrated")
TARGETS = {"shipped": 0.15, "calibrated": 0.08}
SUFFIXES = 8


@dataclass(frozen=True, slots=True)
class Job:
    """`name` is a workflow's, or `prefix`: prompts that share long beginnings, with one call each."""

    name: str
    rows: int

    def __str__(self) -> str:
        return f"{self.name} n={self.rows}"

    @property
    def workflow(self) -> Workflow[..., Any]:
        return prefix.ask if self.name == PREFIX else workflow_of(self.name, ANSWER_TOKENS)

    def table(self, seed: int, count: int | None = None) -> list[Row]:
        if self.name == PREFIX:
            return prefix.make_rows(f"makespan {seed}", max(1, (count or self.rows) // SUFFIXES), SUFFIXES)
        return rows_of(Cell(self.name, count or self.rows, "0", "ample"), seed)


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds: measured twice, and predicted with each profile."""

    job: str
    round: int
    seconds: float
    again_s: float
    predicted_s: dict[str, float]
    calls: int
    predicted_calls: float
    prompt_tokens: int
    predicted_prompt_tokens: float
    cached_tokens: int
    predicted_cached_tokens: float


def main() -> None:
    arguments = _arguments()
    jobs = [Job(name, int(rows)) for name, _, rows in (job.partition(":") for job in arguments.jobs.split(","))]
    measured, runs = run_async(bench(jobs, arguments.rounds, arguments.profile_seconds))
    report = summarise(runs, measured)
    print("\n".join(table(report)))
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report | {"runs": [asdict(run) for run in runs]}, indent=1))


async def bench(jobs: Sequence[Job], rounds: int, profile_s: float) -> tuple[Measured, list[Run]]:
    async with LocalVllm(recipe(Cell("diamond", 1, "0", "ample"), free_port())) as engine, AsyncExitStack() as stack:
        model = engine.spec.models[0]
        spec = replace(engine.spec, models=(*MODELS, model), served_names=dict.fromkeys(MODELS, model))
        stands = []
        for job in jobs:  # one runtime for all runs of a job, as a service has: workers of tools start once
            runtime = await stack.enter_async_context(open_runtime([spec], job.workflow.tools))
            stands.append(Stand(spec, job, runtime))
        for stand in stands:
            await stand.gather_history()
        measured = await measure(spec, spec.max_running, profile_s)
        for stand in stands:
            await stand.look_back(measured.fit.profile)
        profiles = {"shipped": None, "profiled": measured.fit.profile}
        runs = []
        for number in range(rounds):
            for stand in stands if number % 2 == 0 else stands[::-1]:
                runs.append(await stand.compare(number, profiles))
                print(f"# {runs[-1]}", flush=True)
        return measured, runs


@dataclass
class Stand:
    """Where one job is run and foreseen."""

    spec: EngineSpec
    job: Job
    runtime: Runtime
    history: History = NO_HISTORY
    earlier: Sequence[Earlier] = ()
    hindsight: Hindsight = NO_HINDSIGHT

    async def gather_history(self) -> None:
        """The first run also starts what starts when first used."""
        workflow, count = self.job.workflow, max(8, self.job.rows // 2)
        for number in range(1 + MOST_JOBS):
            await self._run(f"history {number}", self.job.table(seed=1000 + number, count=count))
        self.history = history_of(await self.runtime.store.seen(workflow.name, limit=count * 100))
        self.earlier = await earlier_jobs(self.runtime.store, workflow.name, workflow.plan)

    async def look_back(self, profile: Profile) -> None:
        """Once the engine is measured: how far off the jobs before are predicted."""
        spec, tools = replace(self.spec, profile=profile), tool_pools(self.job.workflow.tools, started=True)
        self.hindsight = await hindsight_of(self.earlier, [spec], self.history, tools=tools)
        print(f"# {self.job}: {self.hindsight}", flush=True)

    async def compare(self, number: int, profiles: dict[str, Profile | None]) -> Run:
        rows, workflow = self.job.table(seed=number + 1), self.job.workflow
        columns = Table.from_rows(rows, workflow.plan.inputs)
        found = {
            name: await predict_makespan(
                workflow.plan,
                columns,
                [replace(self.spec, profile=profile)],
                self.history,
                draws=DRAWS,
                tools=tool_pools(workflow.tools, started=True),
            )
            for name, profile in profiles.items()
        }
        found["calibrated"] = self.hindsight.corrected(found["profiled"])
        seconds, usage = await self._run(f"{number}", rows)
        again_s, _ = await self._run(f"{number} again", rows)
        return Run(
            str(self.job),
            number,
            seconds,
            again_s,
            {name: one.seconds.p50 for name, one in found.items()},
            usage["calls"],
            found["profiled"].calls,
            usage["prompt_tokens"],
            found["profiled"].prompt_tokens,
            usage["cached_tokens"],
            found["profiled"].cached_tokens,
        )

    async def _run(self, name: str, rows: Sequence[Row]) -> tuple[float, Mapping[str, int]]:
        """One job, nothing of it known before: the engine's prefixes are forgotten, results are not looked for."""
        async with aiohttp.ClientSession() as session, session.post(f"{self.spec.url}/reset_prefix_cache") as answer:
            answer.raise_for_status()
        workflow, store = self.job.workflow, self.runtime.store
        begun = time.perf_counter()
        await store.create_job(NewJob(JobId(name), workflow.name, encode(workflow.plan), rows, cache=False))
        claim = await store.claim("benchmark", 3600.0, JobId(name))
        assert claim is not None
        with databases_for(self.job.name):
            await self.runtime.driver.run(claim)
        return time.perf_counter() - begun, await store.usage(claim.job)


def summarise(runs: Sequence[Run], measured: Measured) -> dict[str, Json]:
    by_job: dict[str, list[Run]] = {}
    for run in runs:
        by_job.setdefault(run.job, []).append(run)
    jobs = {name: _figures(found) for name, found in by_job.items()}
    return {
        "rounds": max(run.round for run in runs) + 1,
        "profile": asdict(measured.fit.profile),
        "profile_seconds": round(measured.seconds, 1),
        "profile_error": measured.fit.error,
        "profile_error_held_out": measured.fit.held_out_error,
        "jobs": jobs,
        "mean_abs_error": {name: statistics.fmean(abs(one["error"][name]) for one in jobs.values()) for name in WAYS},
        "targets": TARGETS,
    }


def _figures(runs: Sequence[Run]) -> dict[str, Json]:
    measured = sorted(seconds for run in runs for seconds in (run.seconds, run.again_s))
    typical, least = statistics.median(measured), measured[(len(measured) - 1) // 4]
    predicted = {name: statistics.median(run.predicted_s[name] for run in runs) for name in WAYS}
    return {
        "seconds": typical,
        "least_s": least,
        "noise": statistics.median(abs(run.again_s / run.seconds - 1) for run in runs),
        "predicted_s": predicted,
        "error": {name: seconds / typical - 1 for name, seconds in predicted.items()},
        "error_least": {name: seconds / least - 1 for name, seconds in predicted.items()},
        "calls": sum(run.calls for run in runs) / len(runs),
        "predicted_calls": sum(run.predicted_calls for run in runs) / len(runs),
        "prompt_tokens": sum(run.prompt_tokens for run in runs) / len(runs),
        "predicted_prompt_tokens": sum(run.predicted_prompt_tokens for run in runs) / len(runs),
        "cached_tokens": sum(run.cached_tokens for run in runs) / len(runs),
        "predicted_cached_tokens": sum(run.predicted_cached_tokens for run in runs) / len(runs),
    }


def table(report: dict[str, Json]) -> Iterator[str]:
    held_out = report["profile_error_held_out"]
    yield f"{report['rounds']} rounds; profiled in {report['profile_seconds']} s, {held_out:.1%} off on calls held out"
    columns = "   ".join(f"{way:>10} {'off':>7} {'least':>7}" for way in WAYS) + "   calls  tokens off"
    yield f"{'job':18} {'median':>9} {'least':>9} {'noise':>6}   {columns}"
    for name, one in report["jobs"].items():
        told = "   ".join(
            f"{one['predicted_s'][way]:8.2f} s {one['error'][way]:+7.1%} {one['error_least'][way]:+7.1%}"
            for way in WAYS
        )
        yield (
            f"{name:18} {one['seconds']:7.2f} s {one['least_s']:7.2f} s {one['noise']:6.1%}   {told}   "
            f"{one['calls']:5.0f}  {one['predicted_prompt_tokens'] / one['prompt_tokens'] - 1:+.1%}"
        )
    for name, most in report["targets"].items():
        worst = max(abs(one["error"][name]) for one in report["jobs"].values())
        mean, met = report["mean_abs_error"][name], "met" if worst <= most else "MISSED"
        yield f"{name}: {mean:.1%} off on average, {worst:.1%} at worst; {most:.0%} wanted: {met}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=JOBS, help="workflow:rows, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile-seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
