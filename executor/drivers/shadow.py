"""A shadow run: recorded traffic is run again under other settings, and what is found is held against newer traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from executor.core.knobs import Tuned, knobs_of, setting_of, with_setting
from executor.drivers.replaying import ReplayedProgram, replay
from executor.engines.port import EngineSpec
from executor.events import Retuned
from executor.policy.tuning import (
    LEFT_OUT,
    Comparison,
    Guard,
    Knob,
    Setting,
    bounded,
    compare,
    cost_of,
    is_better,
    joined,
    turned,
)
from executor.recording import RecordedJob, Recording, before, latest, part_of, since
from planner.ir.ids import JobId

#: Of the window, the newest part is kept aside: what was chosen on the older part must hold there.
NEWEST = 1 / 3
#: With fewer programs in either part they are no part of their own.
FEWEST_PROGRAMS = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried: turns of all knobs, samples for choosing, and for the last comparison."""

    turns: int = 2
    samples: int = 3
    last_samples: int = 6


@dataclass(frozen=True, slots=True)
class Trial:
    setting: Setting
    found: Comparison


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found. `chosen` is the best setting on the older part, `last` how it does on the newer; with `better` it
    should be taken. `why` says so for people."""

    current: Setting
    chosen: Setting
    trials: Sequence[Trial]
    last: Comparison | None
    better: bool
    why: str


def tune(
    recording: Recording,
    fleet: Sequence[EngineSpec],
    tuned: Tuned,
    guard: Guard | None = None,
    effort: Effort | None = None,
    seed: int = 0,
) -> Tuning:
    """Look for a better setting than that of `tuned`, step by step. The same arguments find the same."""
    return _Search(fleet, tuned, guard or Guard(), effort or Effort(), seed).run(recording)


@dataclass(frozen=True, slots=True)
class Turn:
    """Until `at`, the setting in force was that of `before`."""

    at: float
    before: Tuned


def reality(recording: Recording, fleet: Sequence[EngineSpec], tuned: Tuned, turn: Turn | None = None) -> float:
    """What the programs that came in since the turn really cost, over what they cost in the simulation. What was there
    before them was in their way: the simulation begins with it, too."""
    if turn is None:
        return recorded_cost(recording) / simulated_cost(recording, fleet, tuned)
    recent = since(recording, turn.at)
    came, retuned = {job.id for job in recent.jobs}, Retuned(turn.at, dict(setting_of(tuned)))
    replayed = replay(recording, fleet, turn.before.limits, turn.before.rule, retuned)
    return recorded_cost(recent) / _cost([one for one in replayed if one.job in came])


def simulated_cost(recording: Recording, fleet: Sequence[EngineSpec], tuned: Tuned) -> float:
    """What the whole window costs in the simulation."""
    return _cost(replay(recording, fleet, tuned.limits, tuned.rule))


def recorded_cost(recording: Recording) -> float:
    """What it really cost."""
    return _cost(recorded_programs(recording))


def recorded_programs(recording: Recording) -> Sequence[ReplayedProgram]:
    """How its programs really went."""
    return [_as_recorded(job, row) for job in recording.jobs for row in job.ended_s]


class _Search:
    def __init__(self, fleet: Sequence[EngineSpec], tuned: Tuned, guard: Guard, effort: Effort, seed: int) -> None:
        self._fleet, self._tuned, self._guard, self._effort, self._seed = fleet, tuned, guard, effort, seed
        self._current = setting_of(tuned)
        self._trials: list[Trial] = []

    def run(self, recording: Recording) -> Tuning:
        if recording.programs < 2 * FEWEST_PROGRAMS:
            why = f"too little traffic: {recording.programs} programs, {2 * FEWEST_PROGRAMS} are needed"
            return Tuning(self._current, self._current, (), None, False, why)
        older, newer = _parts(recording, self._seed)
        chosen = self._choose(_samples(older, self._effort.samples, self._seed))
        if chosen == self._current:
            return Tuning(self._current, chosen, self._trials, None, False, "no other setting is better")
        return self._hold_against(newer, chosen)

    def _choose(self, samples: Sequence[Recording]) -> Setting:
        """Turn by turn, each from the best so far: of each knob the best step, and all that helped at once."""
        at = self._costs(self._current, samples)
        best, best_costs = self._current, at
        for _ in range(self._effort.turns):
            knobs = (bounded(knob, self._guard.most) for knob in knobs_of(self._tuned))
            steps = [self._best_step(best, best_costs[0], knob, samples[0]) for knob in knobs]
            tried = [(one, self._costs(one, samples)) for one in steps if one is not None]
            self._trials += [Trial(one, compare(at, costs, self._guard.confidence)) for one, costs in tried]
            helped = sorted((sum(costs), one) for one, costs in tried if sum(costs) < sum(best_costs))
            if not helped:
                break
            together = joined(best, [one for _, one in helped])
            tried.append((together, self._costs(together, samples)))
            best, best_costs = min(tried, key=lambda one: (sum(one[1]), one[0]))
        return best

    def _best_step(self, best: Setting, cost: float, knob: Knob, sample: Recording) -> Setting | None:
        """By one sample, which costs little; None where no step helps there."""
        costs = [(self._costs(one, [sample])[0], one) for one in turned(best, knob)]
        found = min(costs, default=(cost, best))
        return found[1] if found[0] < cost else None

    def _hold_against(self, newer: Recording, chosen: Setting) -> Tuning:
        samples = _samples(newer, self._effort.last_samples, self._seed + 1)
        last = compare(self._costs(self._current, samples), self._costs(chosen, samples), self._guard.confidence)
        better = is_better(last, self._guard)
        noise = f"costs {last.ratio:.3f} ({last.low:.3f} to {last.high:.3f}) of the setting in force"
        why = f"{'better by more than' if better else 'not better by more than'} the noise: {noise}"
        return Tuning(self._current, chosen, self._trials, last, better, why)

    def _costs(self, setting: Setting, samples: Sequence[Recording]) -> list[float]:
        tuned = with_setting(self._tuned, setting)
        return [_cost(replay(sample, self._fleet, tuned.limits, tuned.rule)) for sample in samples]


def _parts(recording: Recording, seed: int) -> tuple[Recording, Recording]:
    """An older part to choose on and a newer one to hold the choice against; where one large job leaves no two, its
    programs are parted by chance."""
    newer = latest(recording, NEWEST)
    older = before(recording, newer)
    if min(older.programs, newer.programs) >= FEWEST_PROGRAMS:
        return older, newer
    programs = _programs(recording)
    Random(seed).shuffle(programs)
    middle = len(programs) // 2
    return _only(recording, programs[:middle]), _only(recording, programs[middle:])


def _samples(recording: Recording, count: int, seed: int) -> list[Recording]:
    """Each without a part of the programs, drawn anew, coming in as densely as all do."""
    programs = _programs(recording)
    kept = len(programs) - round(LEFT_OUT * len(programs))
    drawn = (Random(f"{seed} {place}").sample(programs, kept) for place in range(count))
    return [_only(recording, one) for one in drawn]


def _programs(recording: Recording) -> list[tuple[JobId, int]]:
    return [(job.id, row) for job in recording.jobs for row in job.ended_s]


def _only(recording: Recording, programs: Sequence[tuple[JobId, int]]) -> Recording:
    """A part of the programs, as many a second as there were."""
    kept: dict[JobId, list[int]] = {}
    for job, row in programs:
        kept.setdefault(job, []).append(row)
    return part_of(recording, kept, recording.programs / len(programs))


def _cost(programs: Sequence[ReplayedProgram]) -> float:
    """Programs of a batch count as long as the whole of it."""
    last_s: dict[JobId, float] = {}
    for one in programs:
        last_s[one.job] = max(one.seconds, last_s.get(one.job, 0.0))
    return cost_of([max(1e-6, last_s[one.job]) for one in programs], sum(one.missed for one in programs))


def _as_recorded(job: RecordedJob, row: int) -> ReplayedProgram:
    at, deadline_s = job.submitted.at, job.submitted.deadline_s
    return ReplayedProgram(job.id, row, job.ended_s[row] - at, None if deadline_s is None else deadline_s - at)
