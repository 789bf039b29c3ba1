"""How far a simulation is from the engine: the same programs on the modelled engine, on vLLM's own scheduler in virtual
time, and on a real CPU vLLM.

    python -m benchmarks.scheduling.fidelity [--minutes 45] [--kv-blocks 1024,512] [--traces swe,bfcl] [--rates 0.5,1,2]
        [--arms stock,priority,ours] [--programs 24] [--rounds 1] [--repeats 3] [--profile FILE.toml] [--out FILE.json]
    python -m benchmarks.scheduling.fidelity --without-real ...

Both simulations take their steps by one profile. It is fitted on the same real engine and through the same door, to
jobs made for that (`benchmarks.scheduling.calibration`), a round of them before each measured load, since machines are
not always as quick; with `--profile`, it is read from a file. Programs, tools' pauses and arrivals are those of
`benchmarks.kv.traces`, and prompts hold the answers before them.

The engine takes its steps in its core's process (`benchmarks.one_process`): what two processes that spin take from the
web server and the client on a small machine is in no profile of steps.

A simulation says what to expect, and no run of a real engine takes what the next one does. So each load is run
`--repeats` times, and what is expected of a program is the median of what it took. Told for each load and arm: mean
completion, the mean absolute error of each program's completion, and of what is left of that without the tools' pauses,
which every body knows; prefilled tokens; and beside that, how far single real runs are from the simulation, and from
their own median, below which no simulation can be. Then, of pairs of arms whose real means differ by more than their
repeats do, how many each simulation ranks as the engine does.

What does not fit into `--minutes` is skipped, and said so. `--without-real` compares the simulations alone. Needs
`make engine`; takes an otherwise idle machine.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks.arguments import some_of
from benchmarks.kv.arms import ARMS, OURS, PRIORITY, STOCK, Flags, Serving
from benchmarks.kv.distributions import distributions_in
from benchmarks.kv.lab import CannotRun, EngineSize, Lab
from benchmarks.kv.modelled_lab import ModelledLab
from benchmarks.kv.programs import Load, open_loop
from benchmarks.kv.real_lab import ROOT, RealLab, cpu_recipe
from benchmarks.kv.results import ProgramResult
from benchmarks.kv.traces import TRACES, draw_programs
from benchmarks.kv.virtual_lab import VirtualLab
from benchmarks.scheduling.calibration import Calibration
from executor.engines.model.profiles import PROFILES
from executor.engines.profile_file import read_profile, write_profile
from halo.event_loop import run_async
from planner.cost.profile import Profile

DATA = ROOT.parent / "shared" / "data"
REAL, VIRTUAL, MODELLED = "real", "virtual", "modelled"
COMPLETION_ERROR, PREFILLED_ERROR = 0.10, 0.05
#: Arms whose real means differ by less, or by less than so many standard errors of their repeats, are taken for equal.
NOISE, STANDARD_ERRORS = 0.03, 2.0
CALIBRATING_ROUNDS = 5  # at least


@dataclass(frozen=True, slots=True)
class Cell:
    kv_blocks: int
    trace: str
    per_s: float
    round: int

    def __str__(self) -> str:
        return f"{self.kv_blocks} blocks, {self.trace}, {self.per_s:g}/s, round {self.round + 1}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One arm on one body: each program's completion, and what of it was no tool's pause, in seconds."""

    cell: Cell
    arm: str
    body: str
    completions_s: Sequence[float]
    engine_s: Sequence[float]
    prefilled_tokens: float
    repeat: int = 0

    @property
    def mean_s(self) -> float:
        return fmean(self.completions_s)


@dataclass(frozen=True, slots=True)
class Error:
    """Of a simulation against what is expected of the engine: mean absolute relative ones, and the relative one of
    prefilled tokens. `single` is against each run of the engine, `noise` of those themselves."""

    completion: float
    engine: float
    prefilled: float
    single: float
    noise: float


def main() -> int:
    asked = _arguments()
    fidelity = Fidelity(asked)
    run_async(fidelity.measure())
    if asked.out:
        asked.out.write_text(json.dumps([asdict(seen) for seen in fidelity.seen], indent=1) + "\n")
    return 0 if tell(fidelity.seen, VIRTUAL if asked.without_real else REAL) else 1


class Fidelity:
    """One measuring; `seen` grows."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.seen: list[Seen] = []
        self._asked = asked
        self._until = time.monotonic() + 60 * asked.minutes
        self._known = distributions_in(DATA)
        self._profile: Profile | None = read_profile(asked.profile) if asked.profile else None
        self._took_s: dict[tuple[str, float], float] = {}

    async def measure(self) -> None:
        sizes = [EngineSize(blocks) for blocks in self._asked.kv_blocks]
        for number, size in enumerate(sizes):
            left_s = self._until - time.monotonic()
            cells = self._cells(size)
            if not self._asked.without_real:
                cells = await self._measured(size, cells, time.monotonic() + left_s / (len(sizes) - number))
            await self._simulate(size, cells)

    def _cells(self, size: EngineSize) -> list[Cell]:
        asked = self._asked
        rounds = range(asked.rounds)
        return [Cell(size.kv_blocks, t, per_s, n) for n in rounds for t in asked.traces for per_s in asked.rates]

    async def _measured(self, size: EngineSize, cells: Sequence[Cell], until: float) -> list[Cell]:
        """On a real engine, which is calibrated meanwhile. The cells for which there was time."""
        calibration = None if self._profile else Calibration(size, Flags())
        lab = RealLab(partial(cpu_recipe, size), len(self._asked.arms))
        measured: dict[Cell, None] = {}
        try:
            for repeat in range(self._asked.repeats):
                for cell in cells:
                    if time.monotonic() + self._took_s.get((cell.trace, cell.per_s), 0.0) > until:
                        print(f"skipped for want of time: {cell}, time {repeat + 1}", flush=True)
                        continue
                    await self._measure_cell(lab, calibration, cell, repeat)
                    measured[cell] = None
            if calibration is not None:
                await self._calibrate(calibration, lab)
        finally:
            await lab.close()
        return list(measured)

    async def _measure_cell(self, lab: RealLab, calibration: Calibration | None, cell: Cell, repeat: int) -> None:
        begun, arms = time.monotonic(), self._asked.arms
        if calibration is not None:
            await calibration.take_round(lab)
        for name in arms if (cell.round + repeat) % 2 == 0 else list(reversed(arms)):
            await self._run(lab, REAL, cell, name, repeat)
        self._took_s[cell.trace, cell.per_s] = time.monotonic() - begun
        print(f"{cell}, time {repeat + 1} of {self._asked.repeats}: done", flush=True)

    async def _calibrate(self, calibration: Calibration, lab: RealLab) -> None:
        """Of the machine: what the first engine told holds for those with another KV cache too."""
        while calibration.rounds < CALIBRATING_ROUNDS:
            await calibration.take_round(lab)
        found = calibration.fit()
        print(f"profile: {found.profile.source}, {found.error:.1%} off on those", flush=True)
        self._profile = found.profile
        if self._asked.profile_out:
            write_profile(self._asked.profile_out, found.profile)

    async def _simulate(self, size: EngineSize, cells: Sequence[Cell]) -> None:
        profile = self._profile or PROFILES["cpu"]
        virtual, modelled = VirtualLab(size, profile=profile), ModelledLab(size, profile)
        try:
            for cell in cells:
                for name in self._asked.arms:
                    await self._run(virtual, VIRTUAL, cell, name)
                    await self._run(modelled, MODELLED, cell, name)
        finally:
            await virtual.close()

    async def _run(self, lab: Lab, body: str, cell: Cell, name: str, repeat: int = 0) -> None:
        arm, load = ARMS[name], self._load(cell)
        serving: Serving = arm.serving(Flags(), Flags())
        try:
            results = await lab.run(serving, load, arm.telling, f"{cell} {name} {repeat}")
        except CannotRun as problem:
            print(f"{body} cannot run {name!r}: {problem}", flush=True)
            return
        if failed := [result.failed for result in results if result.failed]:
            print(f"{cell}, {name}, {body}: {len(failed)} programs failed, left out: {failed[0]}", flush=True)
            return
        self.seen.append(_seen(cell, name, body, load, results, repeat))

    def _load(self, cell: Cell) -> Load:
        seed = self._asked.seed + cell.round
        return open_loop(draw_programs(cell.trace, self._asked.programs, seed, self._known), cell.per_s, seed)


def _seen(cell: Cell, arm: str, body: str, load: Load, results: Sequence[ProgramResult], repeat: int) -> Seen:
    pauses_s = {program.id: program.pauses_s for program in load.programs}
    return Seen(
        cell=cell,
        arm=arm,
        body=body,
        completions_s=[result.completion_s for result in results],
        engine_s=[result.completion_s - pauses_s[result.id] for result in results],
        prefilled_tokens=sum(turn.prefilled_tokens for result in results for turn in result.turns),
        repeat=repeat,
    )


def tell(seen: Sequence[Seen], truth: str) -> bool:
    """Prints everything against `truth`; whether the goals are reached by every simulation."""
    runs: dict[tuple[Cell, str, str], list[Seen]] = defaultdict(list)
    for one in seen:
        runs[one.cell, one.arm, one.body].append(one)
    bodies = [body for body in (VIRTUAL, MODELLED) if body != truth]
    print(f"{'':46}{truth:>10}" + "".join(f"{body:>10}{'program':>9}{'engine':>8}{'prefill':>9}" for body in bodies))
    errors: dict[str, list[Error]] = defaultdict(list)
    for (cell, arm, body), real_ones in runs.items():
        if body != truth:
            continue
        real = _expected(real_ones)
        line = f"{f'{cell}, {arm}':46}{real.mean_s:9.2f}s"
        for other in bodies:
            if not (simulated := runs.get((cell, arm, other))):
                line += " " * 36
                continue
            error = _error(simulated[0], real, real_ones)
            errors[other].append(error)
            line += f"{simulated[0].mean_s:9.2f}s{error.completion:9.1%}{error.engine:8.1%}{error.prefilled:+9.1%}"
        print(line)
    reached = [_told(body, errors[body], seen, truth) for body in bodies if errors[body]]
    return all(reached)


def _told(body: str, errors: Sequence[Error], seen: Sequence[Seen], truth: str) -> bool:
    completion, prefilled = fmean(one.completion for one in errors), fmean(abs(one.prefilled) for one in errors)
    pairs, alike = _ranked(seen, body, truth)
    print(
        f"{body} against {truth}: a program's completion {completion:.1%} off (goal {COMPLETION_ERROR:.0%}), without "
        f"pauses {fmean(one.engine for one in errors):.1%}; of single runs {fmean(one.single for one in errors):.1%}, "
        f"which are {fmean(one.noise for one in errors):.1%} off their own median; prefilled tokens {prefilled:.1%} "
        f"off (goal {PREFILLED_ERROR:.0%}); {alike} of {pairs} pairs of arms ranked alike"
    )
    return completion <= COMPLETION_ERROR and prefilled <= PREFILLED_ERROR and alike == pairs


def _expected(repeats: Sequence[Seen]) -> Seen:
    """Of each program the median."""
    return replace(
        repeats[0],
        completions_s=[median(times_s) for times_s in zip(*(one.completions_s for one in repeats), strict=True)],
        engine_s=[median(times_s) for times_s in zip(*(one.engine_s for one in repeats), strict=True)],
        prefilled_tokens=median(one.prefilled_tokens for one in repeats),
    )


def _error(one: Seen, real: Seen, repeats: Sequence[Seen]) -> Error:
    return Error(
        completion=_mean_error(one.completions_s, real.completions_s),
        engine=_mean_error(one.engine_s, real.engine_s),
        prefilled=one.prefilled_tokens / real.prefilled_tokens - 1,
        single=fmean(_mean_error(one.completions_s, single.completions_s) for single in repeats),
        noise=fmean(_mean_error(single.completions_s, real.completions_s) for single in repeats),
    )


def _mean_error(told: Sequence[float], real: Sequence[float]) -> float:
    return fmean(abs(one / other - 1) for one, other in zip(told, real, strict=True))


def _ranked(seen: Sequence[Seen], body: str, truth: str) -> tuple[int, int]:
    """Of pairs of arms under one load, over all its rounds: how many differ, and how many of those do so alike."""
    pairs = alike = 0
    for real, told in zip(_means(seen, truth), _means(seen, body), strict=True):
        for one, other in combinations(sorted(real.keys() & told.keys()), 2):
            differs = _ratios(real[one], real[other])
            if _more_than_noise(differs):
                pairs += 1
                alike += (fmean(differs) < 0) == (fmean(_ratios(told[one], told[other])) < 0)
    return pairs, alike


def _means(seen: Sequence[Seen], body: str) -> Iterator[dict[str, dict[tuple[int, int], float]]]:
    """For each load, the mean completion on that body by arm, round and repeat."""
    loads: dict[Cell, dict[str, dict[tuple[int, int], float]]] = {}
    for one in seen:
        of_load = loads.setdefault(replace(one.cell, round=0), {})
        if one.body == body:
            of_load.setdefault(one.arm, {})[one.cell.round, one.repeat] = one.mean_s
    yield from loads.values()


def _ratios(one: Mapping[tuple[int, int], float], other: Mapping[tuple[int, int], float]) -> list[float]:
    """Logarithms, of the runs that both have."""
    return [math.log(one[run] / other[run]) for run in one if run in other] or [0.0]


def _more_than_noise(ratios: Sequence[float]) -> bool:
    unknown = STANDARD_ERRORS * stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return abs(fmean(ratios)) > max(math.log1p(NOISE), unknown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--kv-blocks", type=_numbers, default=[1024, 512], help="of 32 tokens each")
    parser.add_argument("--traces", type=some_of(tuple(TRACES)), default=["swe", "bfcl"])
    parser.add_argument("--rates", type=_rates, default=[0.5, 1.0, 2.0], help="programs a second")
    parser.add_argument("--arms", type=some_of(tuple(ARMS)), default=[STOCK, PRIORITY, OURS])
    parser.add_argument("--programs", type=int, default=24, help="of a load")
    parser.add_argument("--rounds", type=int, default=1, help="each with other programs")
    parser.add_argument("--repeats", type=int, default=3, help="of the same programs on the real engine")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--profile", type=Path, help="in place of calibrating")
    parser.add_argument("--profile-out", type=Path, help="where the calibrated profile goes")
    parser.add_argument("--without-real", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _rates(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
