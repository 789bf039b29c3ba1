"""The knee: the arrival rate at which programs take twice as long as alone."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from benchmarks.kv.programs import Load, Program, closed_loop, open_loop
from benchmarks.kv.results import ProgramResult

SLOWDOWN = 2.0
#: Every third program is timed alone; the same ones are looked at under load.
ALONE = 3
FACTOR, LEAST_STEPS, LAST_STEPS = 1.6, 8, 2

Run = Callable[[Load], Awaitable[Sequence[ProgramResult]]]


@dataclass(frozen=True, slots=True)
class Knee:
    """`alone_s` is the mean of programs that run one at a time; `tried` has the slowdown at each rate. Where none
    reached twice that, `per_s` is the highest rate tried."""

    per_s: float
    alone_s: float
    tried: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        slowdowns = ", ".join(f"{rate:.3g}: {slower:.2f}" for rate, slower in self.tried)
        reached = "" if self.tried[-1][1] > SLOWDOWN else " or above: too few programs to slow each other so much"
        return f"the knee is {self.per_s:.3g} programs/s{reached} ({self.alone_s:.2f} s alone; slowdowns {slowdowns})"


async def find_knee(programs: tuple[Program, ...], run: Run, seed: int) -> Knee:
    """Begins at the rate at which two programs are in the engine at any time, if each takes as long there as alone."""
    some = programs[::ALONE]
    alone = {result.id: result.completion_s for result in await run(closed_loop(some, 1))}
    alone_s = statistics.fmean(alone.values())
    tried: dict[float, float] = {}

    async def slowdown(per_s: float) -> float:
        tried[per_s] = _slowdown(await run(open_loop(programs, per_s, seed)), alone)
        return tried[per_s]

    in_engine_s = alone_s - statistics.fmean(program.pauses_s for program in some)
    rate = 2.0 / max(in_engine_s, 0.1 * alone_s)
    above = await slowdown(rate) > SLOWDOWN
    for _ in range(LEAST_STEPS):
        rate = rate / FACTOR if above else rate * FACTOR
        if (await slowdown(rate) > SLOWDOWN) != above:
            break
    else:
        return Knee(_crossing(tried), alone_s, tuple(sorted(tried.items())))
    for _ in range(LAST_STEPS):
        await slowdown(_crossing(tried))
    return Knee(_crossing(tried), alone_s, tuple(sorted(tried.items())))


def _slowdown(results: Sequence[ProgramResult], alone: Mapping[str, float]) -> float:
    return sum(result.completion_s for result in results if result.id in alone) / sum(alone.values())


def _crossing(tried: Mapping[float, float]) -> float:
    """Where the slowdown passes `SLOWDOWN`, between the nearest rates on both sides, on a logarithmic line."""
    below = [rate for rate, slower in tried.items() if slower <= SLOWDOWN]
    above = [rate for rate, slower in tried.items() if slower > SLOWDOWN and rate > max(below, default=0.0)]
    if not below or not above:
        return max(below) if below else min(tried)
    low, high = max(below), min(above)
    share = log(SLOWDOWN / tried[low]) / log(tried[high] / tried[low])
    share = min(max(share, 0.2), 0.8)
    return exp(log(low) + share * (log(high) - log(low)))
