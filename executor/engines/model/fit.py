"""From trials of a real engine to the profile of it, and how far that is off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, gcd
from statistics import fmean, median
from typing import Any

import numpy as np

from executor.engines.model.trials import Trial, TrialRun, predicted_s
from planner.cost.descent import Floats, least_errors
from planner.cost.profile import Profile

_FITTED = (
    "overhead_s",
    "weights_s",
    "token_s",
    "sequence_s",
    "call_s",
    "intake_token_s",
    "wake_s",
    "round_trip_s",
    "kv_read_s",
    "attend_s",
    "look_back_s",
)
#: Where the profile the search begins at says nothing of a coefficient, it begins here: a logarithm needs a start.
_START = {
    "sequence_s": 50e-6,
    "call_s": 1e-3,
    "intake_token_s": 1e-6,
    "wake_s": 1e-3,
    "round_trip_s": 2e-3,
    "weights_s": 1e-4,
    "kv_read_s": 1e-9,
}
_START_ELSE = 1e-8
_NOISE = 0.05  # of what a run takes, on a machine of its own
_PRIOR = 1e-4  # where trials cannot tell two coefficients apart, both stay near where they were
_BLOCKS = (8, 16, 32, 64, 128, 256)
_CHARACTERS = (1.0, 8.0)  # of a token, at least and at most


@dataclass(frozen=True, slots=True)
class Checked:
    """One trial, measured (the lower quartile of its runs) and predicted by the fitted profile."""

    trial: Trial
    runs: int
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class ProfileFit:
    """`profile` with its new coefficients, and every trial against it; errors are mean absolute relative ones."""

    profile: Profile
    trials: tuple[Checked, ...]
    error: float
    held_out_error: float | None


def fit_profile(starts: Sequence[Profile], runs: Sequence[TrialRun], max_running: int, source: str) -> ProfileFit:
    """The coefficients with which the modelled engine comes closest to the runs of trials that are not held out.

    Of each trial the run at the lower quartile counts: what disturbs a run only ever makes it longer, often by much.
    Trials weigh alike, whatever they take. The search begins once at each of `starts`, which differ in what cannot be
    fitted (chunked prefill, the tokens of a step), and the closest is taken. `runs` hold at least one trial that is not
    held out.
    """
    groups = _by_trial(runs)
    typical = [_undisturbed(group) for group in groups.values()]
    fitted_on = [run for run in typical if not run.trial.held_out]
    assert fitted_on
    block = _block_tokens(runs)
    begun = [replace(start, block_tokens=block or start.block_tokens) for start in starts]
    found = min((_fitted(start, fitted_on, max_running) for start in begun), key=lambda one: one[0])[1]
    checked = tuple(
        Checked(run.trial, len(groups[run.trial.name]), run.seconds, predicted_s(found, run, max_running))
        for run in typical
    )
    error, held_out = (_mean([one for one in checked if one.trial.held_out is held]) for held in (False, True))
    assert error is not None
    told = error if held_out is None else held_out
    profile = replace(_with_text_lengths(found, runs), source=source, calibrated=True, error=told)
    return ProfileFit(profile, checked, error, held_out)


def fit_coefficients(start: Profile, errors: Callable[[Profile], Floats]) -> tuple[float, Profile]:
    """The mean of the absolute `errors` (relative ones, of a profile) reached from `start`, and the profile that has
    it. All coefficients of a step are fitted, and what passes outside the engine."""
    told = replace(start, look_back_s=start.attend_s if start.look_back_s is None else start.look_back_s)
    coefficients: dict[str, Any] = {n: getattr(told, n) or _START.get(n, _START_ELSE) for n in _FITTED}
    begun = replace(told, **coefficients)
    offsets = least_errors(lambda offsets: errors(_moved(begun, offsets)), len(_FITTED), _PRIOR, _NOISE)
    found = _moved(begun, offsets)
    return float(np.abs(errors(found)).mean()), found


def _fitted(start: Profile, runs: Sequence[TrialRun], max_running: int) -> tuple[float, Profile]:
    def errors(profile: Profile) -> Floats:
        return np.array([predicted_s(profile, run, max_running) / run.seconds - 1 for run in runs])

    return fit_coefficients(start, errors)


def _by_trial(runs: Sequence[TrialRun]) -> dict[str, list[TrialRun]]:
    groups: dict[str, list[TrialRun]] = {}
    for run in runs:
        groups.setdefault(run.trial.name, []).append(run)
    return groups


def _undisturbed(runs: Sequence[TrialRun]) -> TrialRun:
    """The run at the lower quartile of the seconds: its own usage belongs to it."""
    return sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 4]


def _moved(profile: Profile, offsets: Floats) -> Profile:
    moved: dict[str, Any] = {n: getattr(profile, n) * exp(o) for n, o in zip(_FITTED, offsets.tolist(), strict=True)}
    return replace(profile, **moved)


def _block_tokens(runs: Sequence[TrialRun]) -> int | None:
    """Prefixes are cached block by block: what divides all that was cached. `None` where nothing was."""
    found = gcd(*(usage.cached_tokens for run in runs for stream in run.streams for usage in stream))
    return found if found in _BLOCKS else None


def _mean(checked: Sequence[Checked]) -> float | None:
    return fmean(abs(one.error) for one in checked) if checked else None


def _with_text_lengths(profile: Profile, runs: Sequence[TrialRun]) -> Profile:
    """Theil and Sen's line through (characters, tokens): the median of the slopes between short and long prompts."""
    points = sorted(
        {
            (characters, usage.prompt_tokens)
            for run in runs
            for usages, texts in zip(run.streams, run.characters, strict=True)
            for usage, characters in zip(usages, texts, strict=True)
        }
    )
    half = len(points) // 2
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points[:half], points[-half:], strict=True) if b[0] > a[0]]
    slope = median(slopes) if slopes else 0.0
    if slope <= 0:
        return profile
    characters = min(max(1 / slope, _CHARACTERS[0]), _CHARACTERS[1])
    template = median(tokens - length / characters for length, tokens in points)
    return replace(profile, chars_per_token=characters, template_tokens=template)
