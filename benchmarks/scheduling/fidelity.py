"""How far a simulation is from the engine: the same programs on the modelled engine, on vLLM's own scheduler in virtual
time, and on a real CPU vLLM.

    python -m benchmarks.scheduling.fidelity [--minutes 45] [--kv-blocks 1024,512] [--traces swe,bfcl] [--rates 0.5,1,2]
        [--arms stock,priority,ours] [--programs 24] [--rounds 2] [--profile FILE.toml] [--out FILE.json]
    python -m benchmarks.scheduling.fidelity --without-real ...

Both simulations take their steps by one profile. It is fitted first, on the same real engine and through the same door,
to jobs made for that (`benchmarks.scheduling.calibration`); with `--profile`, it is read from a file. Programs, tools'
pauses and arrivals are those of `benchmarks.kv.traces`, and prompts hold the answers before them.

The engine takes its steps in its core's process (`benchmarks.one_process`): what two processes that spin take from the
web server and the client on a small machine is in no profile of steps.

Told for each load and arm: mean completion, the mean absolute error of each program's completion, and of what is left
of that without the tools' pauses, which every body knows; and prefilled tokens. Then, of pairs of arms whose real means
differ by more than the noise of rounds, how many each simulation ranks as the engine does. What does not fit into
`--minutes` is skipped, and said so. `--without-real` compares the simulations alone. Needs `make engine`; takes an
otherwise idle machine.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean

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
from benchmarks.scheduling.calibration import calibrate
from executor.engines.model.profiles import PROFILES
from executor.engines.profile_file import read_profile, write_profile
from halo.event_loop import run_async
from planner.cost.profile import Profile

DATA = ROOT.parent / "shared" / "data"
REAL, VIRTUAL, MODELLED = "real", "virtual", "modelled"
COMPLETION_ERROR, PREFILLED_ERROR = 0.10, 0.05
#: Arms whose real means differ by less are taken for equal.
NOISE = 0.03
CALIBRATING_ROUNDS = 5


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
    prefilled_tokens: int

    @property
    def mean_s(self) -> float:
        return fmean(self.completions_s)


@dataclass(frozen=True, slots=True)
class Error:
    """Of a simulation against the engine: mean absolute relative ones, and the relative one of prefilled tokens."""

    completion: float
    engine: float
    prefilled: float


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
        self._took: dict[tuple[float, str], float] = {}

    async def measure(self) -> None:
        sizes = [EngineSize(blocks) for blocks in self._asked.kv_blocks]
        for number, size in enumerate(sizes):
            left_s = self._until - time.monotonic()
            await self._size(size, time.monotonic() + left_s / (len(sizes) - number))

    async def _size(self, size: EngineSize, until: float) -> None:
        real = None if self._asked.without_real else RealLab(partial(cpu_recipe, size), len(self._asked.arms))
        try:
            profile = await self._profile_of(real, size)
            virtual = VirtualLab(size, profile=profile)
            try:
                await self._cells({REAL: real, VIRTUAL: virtual, MODELLED: ModelledLab(size, profile)}, size, until)
            finally:
                await virtual.close()
        finally:
            if real is not None:
                await real.close()

    async def _profile_of(self, real: RealLab | None, size: EngineSize) -> Profile:
        """Of the machine: what the first engine told holds for those with another KV cache too."""
        if self._profile is None and real is None:
            self._profile = PROFILES["cpu"]
        elif self._profile is None and real is not None:
            found = await calibrate(real, size, Flags(), CALIBRATING_ROUNDS)
            print(f"profile: {found.profile.source}, {found.error:.1%} off on those", flush=True)
            self._profile = found.profile
            if self._asked.profile_out:
                write_profile(self._asked.profile_out, found.profile)
        assert self._profile is not None
        return self._profile

    async def _cells(self, labs: Mapping[str, Lab | None], size: EngineSize, until: float) -> None:
        for number in range(self._asked.rounds):
            for trace in self._asked.traces:
                for per_s in self._asked.rates:
                    cell = Cell(size.kv_blocks, trace, per_s, number)
                    if time.monotonic() + self._estimate_s(per_s) > until:
                        print(f"skipped for want of time: {cell}", flush=True)
                        continue
                    await self._cell(labs, cell)

    async def _cell(self, labs: Mapping[str, Lab | None], cell: Cell) -> None:
        seed = self._asked.seed + cell.round
        load = open_loop(draw_programs(cell.trace, self._asked.programs, seed, self._known), cell.per_s, seed)
        arms = self._asked.arms if cell.round % 2 == 0 else list(reversed(self._asked.arms))
        for name in arms:
            begun = time.monotonic()
            for body, lab in labs.items():
                if lab is not None:
                    await self._run(lab, body, cell, name, load)
            self._took[cell.per_s, name] = time.monotonic() - begun
        print(f"{cell}: done", flush=True)

    async def _run(self, lab: Lab, body: str, cell: Cell, name: str, load: Load) -> None:
        arm = ARMS[name]
        serving: Serving = arm.serving(Flags(), Flags())
        try:
            results = await lab.run(serving, load, arm.telling, f"{cell} {name}")
        except CannotRun as problem:
            print(f"{body} cannot run {name!r}: {problem}", flush=True)
            return
        if failed := [result.failed for result in results if result.failed]:
            print(f"{cell}, {name}, {body}: {len(failed)} programs failed, left out: {failed[0]}", flush=True)
            return
        self.seen.append(_seen(cell, name, body, load, results))

    def _estimate_s(self, per_s: float) -> float:
        return sum(seconds for (rate, _), seconds in self._took.items() if rate == per_s)


def _seen(cell: Cell, arm: str, body: str, load: Load, results: Sequence[ProgramResult]) -> Seen:
    pauses_s = {program.id: program.pauses_s for program in load.programs}
    return Seen(
        cell=cell,
        arm=arm,
        body=body,
        completions_s=[result.completion_s for result in results],
        engine_s=[result.completion_s - pauses_s[result.id] for result in results],
        prefilled_tokens=sum(turn.prefilled_tokens for result in results for turn in result.turns),
    )


def tell(seen: Sequence[Seen], truth: str) -> bool:
    """Prints everything against `truth`; whether the goals are reached by every simulation."""
    by_run = {(one.cell, one.arm, one.body): one for one in seen}
    bodies = [body for body in (VIRTUAL, MODELLED) if body != truth]
    print(f"{'':46}{truth:>10}" + "".join(f"{body:>10}{'program':>9}{'engine':>8}{'prefill':>9}" for body in bodies))
    errors: dict[str, list[Error]] = defaultdict(list)
    for (cell, arm, body), real in by_run.items():
        if body != truth:
            continue
        line = f"{f'{cell}, {arm}':46}{real.mean_s:9.2f}s"
        for other in bodies:
            if (one := by_run.get((cell, arm, other))) is None:
                line += " " * 36
                continue
            error = _error(one, real)
            errors[other].append(error)
            line += f"{one.mean_s:9.2f}s{error.completion:9.1%}{error.engine:8.1%}{error.prefilled:+9.1%}"
        print(line)
    reached = [_told(body, errors[body], seen, truth) for body in bodies if errors[body]]
    return all(reached)


def _told(body: str, errors: Sequence[Error], seen: Sequence[Seen], truth: str) -> bool:
    completion, prefilled = fmean(one.completion for one in errors), fmean(abs(one.prefilled) for one in errors)
    pairs, alike = _ranked(seen, body, truth)
    print(
        f"{body} against {truth}: a program's completion {completion:.1%} off (goal {COMPLETION_ERROR:.0%}), without "
        f"pauses {fmean(one.engine for one in errors):.1%}; prefilled tokens {prefilled:.1%} off "
        f"(goal {PREFILLED_ERROR:.0%}); {alike} of {pairs} pairs of arms ranked alike"
    )
    return completion <= COMPLETION_ERROR and prefilled <= PREFILLED_ERROR and alike == pairs


def _error(one: Seen, real: Seen) -> Error:
    return Error(
        completion=_mean_error(one.completions_s, real.completions_s),
        engine=_mean_error(one.engine_s, real.engine_s),
        prefilled=one.prefilled_tokens / real.prefilled_tokens - 1,
    )


def _mean_error(told: Sequence[float], real: Sequence[float]) -> float:
    return fmean(abs(one / other - 1) for one, other in zip(told, real, strict=True))


def _ranked(seen: Sequence[Seen], body: str, truth: str) -> tuple[int, int]:
    """Of pairs of arms under one load, over all its rounds: how many differ, and how many of those do so alike."""
    pairs = alike = 0
    for real, told in _means(seen, body, truth):
        for one, other in combinations(sorted(real.keys() & told.keys()), 2):
            if abs(real[one] / real[other] - 1) > NOISE:
                pairs += 1
                alike += (real[one] < real[other]) == (told[one] < told[other])
    return pairs, alike


def _means(seen: Sequence[Seen], body: str, truth: str) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """For each load, the mean completion by arm, on the engine and as simulated."""
    loads: dict[Cell, dict[tuple[str, str], list[float]]] = {}
    for one in seen:
        of_load = loads.setdefault(replace(one.cell, round=0), {})
        of_load.setdefault((one.body, one.arm), []).append(one.mean_s)
    for of_load in loads.values():
        yield (
            {arm: fmean(means) for (of, arm), means in of_load.items() if of == truth},
            {arm: fmean(means) for (of, arm), means in of_load.items() if of == body},
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--kv-blocks", type=_numbers, default=[1024, 512], help="of 32 tokens each")
    parser.add_argument("--traces", type=some_of(tuple(TRACES)), default=["swe", "bfcl"])
    parser.add_argument("--rates", type=_rates, default=[0.5, 1.0, 2.0], help="programs a second")
    parser.add_argument("--arms", type=some_of(tuple(ARMS)), default=[STOCK, PRIORITY, OURS])
    parser.add_argument("--programs", type=int, default=24, help="of a load")
    parser.add_argument("--rounds", type=int, default=2, help="each with other programs")
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
