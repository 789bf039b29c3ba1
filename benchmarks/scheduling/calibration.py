"""What an engine's steps cost, learnt through the very door the programs will use, from jobs made for it.

Prompts of many lengths alone, answers written beside each other, over short and over long contexts, conversations that
grow, short turns in short and in long ones, and mixtures. None of them is a program of the traces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.kv.arms import Flags, Serving
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import EngineSize, Lab
from benchmarks.kv.modelled_lab import ModelledLab
from benchmarks.kv.programs import Load, Program, Turn, closed_loop
from benchmarks.kv.results import ProgramResult
from executor.engines.model.fit import fit_coefficients
from executor.engines.model.profiles import PROFILES
from planner.cost.descent import Floats
from planner.cost.profile import Profile

SILENT = Telling()


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`error` is the mean absolute relative one on the calibrating jobs; `seconds` what each took at its typical."""

    profile: Profile
    error: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Timed:
    """From the first program's arrival to the last one's end, and the mean of the programs."""

    makespan_s: float
    mean_s: float


async def calibrate(lab: Lab, size: EngineSize, flags: Flags, rounds: int) -> Calibrated:
    """Of each job the median round counts: programs will be disturbed as jobs are, and the quickest rounds are not what
    to expect."""
    jobs = calibrating_jobs()
    seen: dict[str, list[_Timed]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, load in jobs.items():
            seen[name].append(_timed(await lab.run(Serving(flags), load, SILENT, f"calibration {number}")))
        print(f"calibrating: round {number + 1} of {rounds}", flush=True)
    typical = {name: sorted(runs, key=_makespan_s)[(len(runs) - 1) // 2] for name, runs in seen.items()}
    start = replace(PROFILES["cpu"], chunked=True, step_tokens=flags.step_tokens, block_tokens=size.block_tokens)
    error, found = fit_coefficients(start, lambda profile: _errors(ModelledLab(size, profile), flags, jobs, typical))
    source = f"{len(jobs)} jobs of our own on this machine, {rounds} times each"
    profile = replace(found, source=source, calibrated=True, error=error)
    return Calibrated(profile, error, {name: timed.makespan_s for name, timed in typical.items()})


def calibrating_jobs() -> Mapping[str, Load]:
    alone = {f"prompts of {tokens}": _alone(3, Turn(tokens, 2)) for tokens in (64, 256, 1024, 2000, 4000, 6400)}
    beside = {f"{calls} write": _at_once(calls, Turn(48, 96)) for calls in (1, 4, 12, 32)}
    return {
        **alone,
        **beside,
        "12 read at once": _at_once(12, Turn(900, 2)),
        "6 write over long contexts": _at_once(6, Turn(3000, 64)),
        "one converses": _at_once(1, Turn(1500, 16), *7 * (Turn(250, 16),)),
        "5 converse": _at_once(5, Turn(1200, 24), *6 * (Turn(220, 24),)),
        "one says little": _at_once(1, Turn(200, 2), *32 * (Turn(7, 3),)),
        "one says little in a long context": _at_once(1, Turn(4600, 2), *32 * (Turn(7, 3),)),
        "6 say little in long contexts": _at_once(6, Turn(2200, 8), *16 * (Turn(12, 12),)),
        "unlike, 8 at a time": closed_loop(_unlike(24), 8),
    }


def _alone(times: int, *turns: Turn) -> Load:
    return closed_loop(_alike(times, turns), 1)


def _at_once(calls: int, *turns: Turn) -> Load:
    return closed_loop(_alike(calls, turns), calls)


def _alike(count: int, turns: tuple[Turn, ...]) -> tuple[Program, ...]:
    return tuple(Program(f"{turns[0].new_tokens}-{turns[0].output_tokens}-{number}", turns) for number in range(count))


def _unlike(count: int) -> tuple[Program, ...]:
    lengths = (150, 2400, 700, 90, 1300, 400, 3300, 1000)
    return tuple(
        Program(f"unlike-{number}", (Turn(lengths[number % 8], 8 + 11 * (number % 7)), Turn(120, 20)))
        for number in range(count)
    )


def _errors(lab: ModelledLab, flags: Flags, jobs: Mapping[str, Load], seen: Mapping[str, _Timed]) -> Floats:
    errors: list[float] = []
    for name, load in jobs.items():
        told = _timed(lab.results(Serving(flags), load, SILENT))
        errors += (told.makespan_s / seen[name].makespan_s - 1, told.mean_s / seen[name].mean_s - 1)
    return np.array(errors)


def _timed(results: Sequence[ProgramResult]) -> _Timed:
    begun, ended = min(one.arrived_s for one in results), max(one.finished_s for one in results)
    return _Timed(ended - begun, sum(one.completion_s for one in results) / len(results))


def _makespan_s(timed: _Timed) -> float:
    return timed.makespan_s
