"""The ladder's rungs, one after the other, in any lab: flags swept, knees found, rounds of every arm."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.kv.arms import ARMS, SWEPT, TUNED, Flags, neighbours
from benchmarks.kv.distributions import Distributions
from benchmarks.kv.knee import find_knee
from benchmarks.kv.lab import CannotRun, EngineSize, Lab
from benchmarks.kv.ladder_report import Cell, Run, write_runs
from benchmarks.kv.programs import Load, Program, closed_loop, open_loop
from benchmarks.kv.results import ProgramResult, outcome_of
from benchmarks.kv.traces import Scale, draw_programs

SWEEP_TIMES_KV = 2.0


VLLM_ON_A_CPU = Flags()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured. `flags` and `knees` (programs/s by trace) are taken where given, and found where not.

    `stock` is what vLLM serves with on this kind of machine; `device` names it, for people.
    """

    traces: Sequence[str]
    loads: Sequence[float]
    closed: Sequence[float]
    arms: Sequence[str]
    rounds: int
    programs: int
    minutes: float
    seed: int
    flags: Flags | None
    knees: dict[str, float]
    size: EngineSize
    scale: Scale
    stock: Flags = VLLM_ON_A_CPU
    device: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    """One load of a trace, as a multiple of its knee or of the KV cache."""

    times: float
    of_knee: bool

    def __str__(self) -> str:
        return f"{self.times:g} x {'knee' if self.of_knee else 'KV'}"


class Ladder:
    """One measuring: `runs` grow, and are written to `out` after each round."""

    def __init__(self, plan: Plan, known: Distributions, out: Path | None = None) -> None:
        self.plan = plan
        self.runs: list[Run] = []
        self.skipped: list[str] = []
        self.flags = plan.flags or plan.stock
        self.knees = dict(plan.knees)
        self._known = known
        self._out = out
        self._session = time.strftime("%Y-%m-%dT%H:%M:%S")
        self._begun = time.monotonic()
        self._took: dict[tuple[Cell, str], float] = {}
        self._unable: set[str] = set()
        self._salts = 0

    async def climb(self, lab: Lab) -> None:
        """Every trace in turn, an equal share of the minutes left each; there every round of all its loads."""
        print(f"{'SIMULATED, ' if lab.simulated else ''}{self._known.source}; {self.plan.scale}", flush=True)
        if self.plan.flags is None:
            await self._sweep(lab)
        for number, trace in enumerate(self.plan.traces):
            left_s = self._begun + 60 * self.plan.minutes - time.monotonic()
            await self._trace(lab, trace, time.monotonic() + left_s / (len(self.plan.traces) - number))

    async def _trace(self, lab: Lab, trace: str, until: float) -> None:
        if self.plan.loads and trace not in self.knees:
            self.knees[trace] = await self._knee(lab, trace)
        rungs = [Rung(times, True) for times in self.plan.loads] + [Rung(times, False) for times in self.plan.closed]
        for number in range(self.plan.rounds):
            for rung in rungs:
                await self._round(lab, Cell(trace, str(rung)), rung, number, until)

    async def _round(self, lab: Lab, cell: Cell, rung: Rung, number: int, until: float) -> None:
        arms = [name for name in self.plan.arms if name not in self._unable]
        estimate_s = sum(self._took.get((cell, arm), 0.0) for arm in arms)
        if time.monotonic() + estimate_s > until:
            self.skipped.append(f"{cell}, round {number + 1}: out of time")
            return
        load = self._load(cell.trace, rung, number)
        for arm in arms if number % 2 == 0 else reversed(arms):
            await self._arm(lab, cell, number, arm, load)
        self._save()

    async def _arm(self, lab: Lab, cell: Cell, number: int, name: str, load: Load) -> None:
        arm, begun = ARMS[name], time.monotonic()
        serving = arm.serving(self.flags, self.plan.stock)
        try:
            results = await lab.run(serving, load, arm.telling, self._salt())
        except CannotRun as problem:
            self._unable.add(name)
            self.skipped.append(f"arm {name}: {problem}")
            return
        self._took[cell, name] = time.monotonic() - begun
        outcome, seed = outcome_of(load, results), self.plan.seed + number
        self.runs.append(
            Run(
                cell=cell,
                session=self._session,
                round=number,
                arm=name,
                simulated=lab.simulated,
                seed=seed,
                per_s=load.per_s,
                at_once=load.at_once,
                flags=str(serving.flags),
                outcome=outcome,
            )
        )
        print(
            f"{cell} round {number + 1} {name}: mean {outcome.mean_s:.2f} s, P95 {outcome.p95_s:.2f} s,"
            f" {outcome.prefilled_tokens:,} prefilled, hits {outcome.hit_share:.0%}, {outcome.failed} failed",
            flush=True,
        )
        for failure in [result.failed for result in results if result.failed][:2]:
            print(f"failed: {failure}", flush=True)

    def _load(self, trace: str, rung: Rung, number: int) -> Load:
        """The same programs in every arm of a round, others in the next."""
        seed = self.plan.seed + number
        if rung.of_knee:
            programs = self._programs(trace, self.plan.programs, seed)
            return open_loop(programs, rung.times * self.knees[trace], seed)
        at_once = self._at_once(trace, rung.times)
        return closed_loop(self._programs(trace, max(self.plan.programs, 2 * at_once), seed), at_once)

    def _at_once(self, trace: str, times: float) -> int:
        """So many programs that their final contexts come to that many times the KV cache."""
        programs = self._programs(trace, 200, self.plan.seed)
        mean_tokens = sum(program.final_tokens for program in programs) / len(programs)
        return max(1, round(times * self.plan.size.kv_tokens / mean_tokens))

    def _programs(self, trace: str, count: int, seed: int) -> tuple[Program, ...]:
        return draw_programs(trace, count, seed, self._known, self.plan.scale)

    async def _knee(self, lab: Lab, trace: str) -> float:
        arm = ARMS[TUNED]

        async def run(load: Load) -> Sequence[ProgramResult]:
            return await lab.run(arm.serving(self.flags, self.plan.stock), load, arm.telling, self._salt())

        knee = await find_knee(self._programs(trace, self.plan.programs, self.plan.seed), run, self.plan.seed)
        print(f"{trace}: {knee}", flush=True)
        return knee.per_s

    async def _sweep(self, lab: Lab) -> None:
        """The flags with which the first trace's programs completed soonest, one flag after the other."""
        trace = self.plan.traces[0]
        load = self._load(trace, Rung(SWEEP_TIMES_KV, False), 0)
        best_s = await self._mean_s(lab, self.flags, load)
        for swept in SWEPT:
            tried = [(await self._mean_s(lab, flags, load), flags) for flags in neighbours(self.flags, swept)]
            for mean_s, flags in tried:
                if mean_s < best_s:
                    best_s, self.flags = mean_s, flags
        print(f"tuned: {self.flags} ({best_s:.2f} s at {SWEEP_TIMES_KV:g} x KV, {trace})", flush=True)

    async def _mean_s(self, lab: Lab, flags: Flags, load: Load) -> float:
        arm = ARMS[TUNED]
        try:
            results = await lab.run(arm.serving(flags, self.plan.stock), load, arm.telling, self._salt())
        except CannotRun as problem:
            self.skipped.append(f"sweep {flags}: {problem}")
            return float("inf")
        outcome = outcome_of(load, results)
        print(f"sweep {flags}: {outcome.mean_s:.2f} s", flush=True)
        return float("inf") if outcome.failed else outcome.mean_s

    def _salt(self) -> str:
        """No run finds what another left."""
        self._salts += 1
        return f"{self._session} {self._salts}"

    def _save(self) -> None:
        if self._out is not None:
            plan = replace(self.plan, flags=self.flags, knees=self.knees)
            write_runs(self._out, {"plan": asdict(plan), "distributions": self._known.source}, self.runs, self.skipped)


def plan_of(path: Path) -> Plan:
    """The plan of a file of runs, with the flags and knees that were found."""
    told = json.loads(path.read_text())["settings"]["plan"]
    flags = {name: Flags(**told[name]) for name in ("flags", "stock") if name in told}
    return Plan(**(told | flags | {"size": EngineSize(**told["size"]), "scale": Scale(**told["scale"])}))
