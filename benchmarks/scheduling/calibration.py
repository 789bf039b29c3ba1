"""What an engine's steps cost, learnt through the very door the programs will use, from jobs made for it.

Prompts of many lengths alone, answers written beside each other, over short and over long contexts, conversations that
grow, short turns in short and in long ones, turns after rests of many lengths, and mixtures. None of them is a program
of the traces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

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
#: An engine that was idle for so long is not as quick as one that was not.
RESTS_S = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`error` is the mean absolute relative one on the calibrating jobs; `seconds` what each took at its typical."""

    profile: Profile
    error: float
    seconds: Mapping[str, float]


class Calibration:
    """Rounds of the calibrating jobs on one engine, taken when the owner likes, and the profile that fits them all.

    A machine is not always as quick: rounds that are spread over all of a measuring tell of the machine it ran on.
    """

    def __init__(self, size: EngineSize, flags: Flags) -> None:
        self._size, self._flags = size, flags
        self._jobs = calibrating_jobs()
        self._seen: dict[str, list[_Timed]] = {name: [] for name in self._jobs}
        self.rounds = 0

    async def take_round(self, lab: Lab) -> None:
        """Every job once. Raises `CannotRun`."""
        for name, load in self._jobs.items():
            results = await lab.run(Serving(self._flags), load, SILENT, f"calibration {self.rounds}")
            self._seen[name].append(_timed(load, results))
        self.rounds += 1

    def fit(self) -> Calibrated:
        """Of each job the median round counts: programs will be disturbed as jobs are, and the quickest rounds are not
        what to expect. There was a round."""
        typical = {name: _typical(runs) for name, runs in self._seen.items()}
        size, flags = self._size, self._flags
        start = replace(PROFILES["cpu"], chunked=True, step_tokens=flags.step_tokens, block_tokens=size.block_tokens)
        error, found = fit_coefficients(start, lambda profile: self._errors(ModelledLab(size, profile), typical))
        source = f"{len(self._jobs)} jobs of our own on this machine, {self.rounds} times each"
        profile = replace(found, source=source, calibrated=True, error=error)
        return Calibrated(profile, error, {name: timed.makespan_s for name, timed in typical.items()})

    def _errors(self, lab: ModelledLab, seen: "Mapping[str, _Timed]") -> Floats:
        errors: list[float] = []
        for name, load in self._jobs.items():
            told = _timed(load, lab.results(Serving(self._flags), load, SILENT))
            errors += (told.makespan_s / seen[name].makespan_s - 1, told.mean_s / seen[name].mean_s - 1)
        return np.array(errors)


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
        "one writes after rests": _resting(1, Turn(200, 2), 12, Turn(20, 10)),
        "one writes after rests in a long context": _resting(1, Turn(3200, 2), 12, Turn(20, 10)),
        "4 write after rests": _resting(4, Turn(900, 2), 9, Turn(150, 20)),
    }


def _alone(times: int, *turns: Turn) -> Load:
    return closed_loop(_alike(times, turns), 1)


def _at_once(calls: int, *turns: Turn) -> Load:
    return closed_loop(_alike(calls, turns), calls)


def _alike(count: int, turns: tuple[Turn, ...]) -> tuple[Program, ...]:
    return tuple(Program(f"{turns[0].new_tokens}-{turns[0].output_tokens}-{number}", turns) for number in range(count))


def _resting(count: int, first: Turn, times: int, turn: Turn) -> Load:
    """Programs that rest after each turn but the last, none as long as another at the same time."""

    def program(number: int) -> Program:
        rests = islice(cycle(RESTS_S), number, number + times)
        *resting, last = first, *times * (turn,)
        turns = (replace(one, pause_s=rest_s) for one, rest_s in zip(resting, rests, strict=True))
        return Program(f"resting-{first.new_tokens}-{number}", (*turns, last))

    return closed_loop(tuple(map(program, range(count))), count)


def _unlike(count: int) -> tuple[Program, ...]:
    lengths = (150, 2400, 700, 90, 1300, 400, 3300, 1000)
    return tuple(
        Program(f"unlike-{number}", (Turn(lengths[number % 8], 8 + 11 * (number % 7)), Turn(120, 20)))
        for number in range(count)
    )


@dataclass(frozen=True, slots=True)
class _Timed:
    """From the first program's arrival to the last one's end but for the rests of the one that rests longest, and the
    mean of the programs without their rests."""

    makespan_s: float
    mean_s: float


def _timed(load: Load, results: Sequence[ProgramResult]) -> _Timed:
    begun, ended = min(one.arrived_s for one in results), max(one.finished_s for one in results)
    rests_s = [program.pauses_s for program in load.programs]
    working_s = sum(one.completion_s for one in results) - sum(rests_s)
    return _Timed(ended - begun - max(rests_s), working_s / len(results))


def _typical(runs: Sequence[_Timed]) -> _Timed:
    return sorted(runs, key=lambda timed: timed.makespan_s)[(len(runs) - 1) // 2]
