"""Two real CPU vLLM engines of unlike speed and KV: deadline misses and P95 of Text-to-SQL requests under Halo's rule,
and under round robin, least loaded and vLLM's own priorities. The simulator's prediction of the same runs beside it.

    python -m benchmarks.scheduling.real_mixed [--requests 40] [--loads 0.2 0.3] [--rounds 3] [--out FILE.json]

The quick engine has the larger KV, and the slow one a model of three times as many layers, each with weights of no
meaning: so its steps take about three times as long, as those of a lesser GPU would. With four cores or more, `--cores
0,1,2 3 --layers 4 4` gives them unlike numbers of threads instead; on two cores threads of both would have to share a
core, and wait for each other at every barrier. Each engine is in one process (`benchmarks.one_process`) on
cores of its own, so that neither is in the other's way; the client is wherever there is room.

Both are measured while both are busy (`executor.engines.profiling`), and what they could keep up with at best is
reckoned from that; loads are parts of it. It is a bound: steps full of calls, none of which waits for another.
Requests have one `shrink`-th of the recorded lengths; some are patient and some are not. vLLM's priorities are those of
deadlines, behind least loaded. Arms are interleaved, each round in the other order and with a salt of its own. Needs
`make engine`; takes an otherwise idle machine. Simulated and measured figures stand in tables of their own.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random
from statistics import fmean

from benchmarks.intervals import ratio_interval
from benchmarks.one_process import in_one_process
from benchmarks.scheduling.bounds import p95, saturation_per_s
from benchmarks.scheduling.fleets import path_s
from benchmarks.scheduling.hexgen import DATA, ROOT
from benchmarks.scheduling.live_replay import replay_live
from benchmarks.scheduling.program import MODEL
from benchmarks.scheduling.programs import Asked
from benchmarks.scheduling.replay import Replayed, replay
from benchmarks.scheduling.requests import Call, Request
from benchmarks.scheduling.reuse import Reuse, least_read
from benchmarks.scheduling.traces import Arriving, poisson, traces_in
from executor.clock import WallClock
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.local_recipe import EngineRecipe, recipe_in
from executor.engines.local_vllm import LocalVllm
from executor.engines.model.fit import fit_profile
from executor.engines.model.profiles import PROFILES
from executor.engines.model.trials import trials_for
from executor.engines.port import EngineSpec
from executor.engines.profile_file import read_profile, write_profile
from executor.engines.profiling import Measuring, run_trials
from executor.engines.vllm_http import VllmHttp
from executor.policy.rules import RULES, Rule
from halo.event_loop import run_async
from planner.cost.profile import Profile
from planner.ir.ids import EngineId

CONTEXT_TOKENS, BLOCK_TOKENS, MOST_RUNNING = 4_096, 32, 64
#: What of a request's longest path alone it may take, each as often.
PATIENCE = (2.0, 4.0, 8.0)
GOAL = 1.3
#: Requests before anything is measured.
WARMING = 4
HALO = "halo"


@dataclass(frozen=True, slots=True)
class Arm:
    """`by_deadline`: engines are told deadlines as priorities, and have all calls at once."""

    rule: Rule
    by_deadline: bool = False


ARMS: Mapping[str, Arm] = {
    HALO: Arm(RULES[HALO]),
    "round robin": Arm(RULES["round robin"]),
    "least loaded": Arm(RULES["least loaded"]),
    "vLLM's priorities": Arm(replace(RULES["least loaded"], inside_share=1e9), by_deadline=True),
}


@dataclass(frozen=True, slots=True)
class Mixed:
    """One engine of the two: which cores it has, its KV in blocks, and the layers of its model."""

    name: str
    cores: tuple[int, ...]
    kv_blocks: int
    layers: int


@dataclass(frozen=True, slots=True)
class Run:
    """One arm in one round; `simulated` ones are predictions."""

    load: float
    round: int
    arm: str
    simulated: bool
    mean_s: float
    p95_s: float
    missed: float
    cached: float


def main() -> int:
    asked = _arguments()
    runs = run_async(measure(asked))
    for line in report(runs):
        print(line)
    if asked.out:
        asked.out.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    return 0


async def measure(asked: argparse.Namespace) -> list[Run]:
    """Raises `EngineNotRunning` where no engine is built or one does not start."""
    mixed = list(map(Mixed, ("quick", "slow"), asked.cores, asked.kv_blocks, asked.layers))
    engines = [LocalVllm(recipe_of(one)) for one in mixed]
    try:
        await asyncio.gather(*(engine.start() for engine in engines))
        specs = [spec_of(one, engine.recipe) for one, engine in zip(mixed, engines, strict=True)]
        profiles = await profiles_of(specs, asked)
        fleet = [replace(spec, profile=profile) for spec, profile in zip(specs, profiles, strict=True)]
        return [run async for run in rounds(asked, fleet)]
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))


async def rounds(asked: argparse.Namespace, fleet: Sequence[EngineSpec]) -> AsyncIterator[Run]:
    """Every arm on the same requests at the same instants, and what the simulator says of each.

    An engine's first calls are slower than all others, so some are made before."""
    arriving, how = arriving_in(-1, 1.0, asked, fleet)
    await replay_live(arriving[:WARMING], fleet, _core(fleet, ARMS["round robin"]), how, f"{time.time_ns()}")
    for load in asked.loads:
        for number in range(asked.rounds):
            arriving, how = arriving_in(number, load, asked, fleet)
            arms = list(ARMS.items())
            for name, arm in arms if number % 2 == 0 else reversed(arms):
                put = replace(how, by_deadline=arm.by_deadline)
                salt = f"{time.time_ns()}"
                real = _run(load, number, name, await replay_live(arriving, fleet, _core(fleet, arm), put, salt))
                told = _run(load, number, name, replay(arriving, fleet, _core(fleet, arm), put), simulated=True)
                _print(real, told, asked.rounds)
                yield real
                yield told


def arriving_in(
    number: int, load: float, asked: argparse.Namespace, fleet: Sequence[EngineSpec]
) -> tuple[list[Arriving], Asked]:
    """The requests of a round, and how they are put: with patience in units of the mean longest path."""
    random, traces = Random(number), traces_in(DATA)
    requests = traces["natural" if "natural" in traces else "own natural"](asked.requests, random)
    read = [shrunk(least_read(Reuse.REQUEST, request), asked.shrink) for request in requests]
    paths_s = [path_s(fleet, shrunk(request, asked.shrink)) for request in requests]
    came = poisson(requests, load * saturation_per_s(read, fleet, Reuse.NONE), random)
    patience = [random.choice(PATIENCE) * path / fmean(paths_s) for path in paths_s]
    arriving = [replace(one, patience=part) for one, part in zip(came, patience, strict=True)]
    return arriving, Asked(fmean(paths_s), Reuse.REQUEST, shrink=asked.shrink)


def shrunk(request: Request, shrink: int) -> Request:
    """One `shrink`-th of all tokens, and of each call at least one."""

    def of(call: Call) -> Call:
        return Call(call.step, max(1, call.prompt_tokens // shrink), max(1, call.output_tokens // shrink))

    return Request(*(tuple(map(of, getattr(request, field.name))) for field in fields(request)))


def recipe_of(mixed: Mixed) -> EngineRecipe:
    """Raises `EngineNotRunning` where no engine is built."""
    layers = json.dumps({"num_hidden_layers": mixed.layers})
    recipe = replace(
        recipe_in(ROOT),
        context_tokens=CONTEXT_TOKENS,
        block_tokens=BLOCK_TOKENS,
        kv_blocks=mixed.kv_blocks,
        max_running=MOST_RUNNING,
        start_timeout_s=900.0,
        extra=("--scheduling-policy", "priority", "--hf-overrides", layers, "--load-format", "dummy"),
    )
    return in_one_process(recipe, mixed.cores)


def spec_of(mixed: Mixed, recipe: EngineRecipe) -> EngineSpec:
    return EngineSpec(
        EngineId(mixed.name),
        "vllm",
        (MODEL,),
        recipe.url,
        gpu="cpu",
        max_running=MOST_RUNNING,
        context_tokens=CONTEXT_TOKENS,
        served_names={MODEL: recipe.served_name},
        kv_tokens=mixed.kv_blocks * BLOCK_TOKENS,
    )


async def profiles_of(specs: Sequence[EngineSpec], asked: argparse.Namespace) -> list[Profile]:
    """As they were measured earlier, or are now, both at once. Raises `ProfileInvalid` or `EngineFailed`."""
    if asked.profiles:
        return [
            replace(read_profile(path), kv_tokens=spec.kv_tokens, block_tokens=BLOCK_TOKENS)
            for spec, path in zip(specs, asked.profiles, strict=True)
        ]
    profiles = await asyncio.gather(*(profile_of(spec, asked.budget_s) for spec in specs))
    for spec, profile in zip(specs, profiles, strict=True):
        if asked.profiles_out:
            write_profile(asked.profiles_out / f"{spec.id}.toml", profile)
    return profiles


async def profile_of(spec: EngineSpec, budget_s: float) -> Profile:
    """Measured while the other engine is measured too. Raises `EngineFailed` as the engine does."""
    engine = VllmHttp(spec)
    try:
        measuring = Measuring(engine, MODEL, WallClock(), Random(time.time_ns()))
        runs = await run_trials(measuring, trials_for(CONTEXT_TOKENS, 16), budget_s)
    finally:
        await engine.close()
    start = replace(
        PROFILES["cpu"], kv_tokens=spec.kv_tokens, block_tokens=BLOCK_TOKENS, step_tokens=CONTEXT_TOKENS, chunked=False
    )
    fit = fit_profile([start], runs, MOST_RUNNING, f"{len(runs)} trials of {spec.id}, beside the other engine")
    print(f"{spec.id}: {fit.error:.1%} off on its trials", flush=True)
    return replace(fit.profile, kv_tokens=spec.kv_tokens, block_tokens=BLOCK_TOKENS)


def _print(real: Run, told: Run, rounds: int) -> None:
    """At once, for whoever ends the benchmark early."""
    figures = f"P95 {real.p95_s:.2f} s ({told.p95_s:.2f} simulated), {real.missed:.0%} missed ({told.missed:.0%})"
    print(f"load {real.load:g}, round {real.round + 1} of {rounds}: {real.arm}, {figures}", flush=True)


def report(runs: Sequence[Run]) -> Iterator[str]:
    for simulated in (False, True):
        of_kind = [run for run in runs if run.simulated is simulated]
        yield "simulated, by the measured profiles" if simulated else "measured"
        for load in dict.fromkeys(run.load for run in of_kind):
            yield from _table([run for run in of_kind if run.load == load], load)


def _table(runs: Sequence[Run], load: float) -> Iterator[str]:
    of_arm: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.round):
        of_arm.setdefault(run.arm, []).append(run)
    yield f"load {load:g}, {len(of_arm[HALO])} rounds"
    yield f"{'rule':20}{'mean s':>8}{'P95 s':>8}{'missed':>8}{'cached':>8}  {'P95 by halo':22}missed by halo ({GOAL})"
    for arm, found in of_arm.items():
        means = [fmean(getattr(run, figure) for run in found) for figure in ("mean_s", "p95_s", "missed", "cached")]
        tail, missed = (_ratio(found, of_arm[HALO], figure) for figure in ("p95_s", "missed"))
        yield f"{arm:20}{means[0]:8.2f}{means[1]:8.2f}{means[2]:8.0%}{means[3]:8.2f}  {tail:22}{missed}"


def _ratio(base: Sequence[Run], ours: Sequence[Run], figure: str) -> str:
    """With its interval over rounds; figures of nothing count as next to nothing."""
    pairs = [
        (max(getattr(one, figure), 1e-3), max(getattr(other, figure), 1e-3))
        for one, other in zip(base, ours, strict=True)
    ]
    ratio, low, high = ratio_interval(pairs)
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _core(fleet: Sequence[EngineSpec], arm: Arm) -> Scheduler:
    return Scheduler(fleet, Limits(active_programs=4096), arm.rule)


def _run(load: float, number: int, arm: str, replayed: Replayed, *, simulated: bool = False) -> Run:
    took, work = [one.took_s for one in replayed.ended], replayed.work
    return Run(
        load=load,
        round=number,
        arm=arm,
        simulated=simulated,
        mean_s=fmean(took),
        p95_s=p95(took),
        missed=fmean(one.missed for one in replayed.ended),
        cached=work.cached_tokens / work.prompt_tokens,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument(
        "--loads", type=float, nargs="+", default=[0.2, 0.3], help="parts of what they could keep up with at best"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shrink", type=int, default=6)
    parser.add_argument(
        "--cores", type=_numbers, nargs=2, default=[(0,), (1,)], help="of the quick engine and of the slow one: 0,1 2"
    )
    parser.add_argument("--kv-blocks", type=int, nargs=2, default=[384, 192], help="likewise")
    parser.add_argument("--layers", type=int, nargs=2, default=[4, 12], help="likewise, of their models")
    parser.add_argument("--budget-s", type=float, default=60.0, help="for measuring the engines")
    parser.add_argument("--profiles", type=Path, nargs=2, help="profile files of both, instead of measuring them")
    parser.add_argument("--profiles-out", type=Path, help="a folder for what was measured")
    parser.add_argument("--out", type=Path, help="where to write the runs as JSON")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    raise SystemExit(main())
