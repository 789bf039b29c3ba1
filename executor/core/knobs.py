"""What of the core's bounds and of its rule may be tuned: each knob by name, with the steps it may take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from executor.core.limits import Limits
from executor.policy.dearness import Margin
from executor.policy.rules import Rule
from executor.policy.tuning import Knob, Setting
from halo_vllm.policy.admission import Limits as Admission


@dataclass(frozen=True, slots=True)
class Tuned:
    """The bounds and the rule that the core works by."""

    limits: Limits
    rule: Rule


_Read = Callable[[Tuned], float | None]


@dataclass(frozen=True, slots=True)
class _Place:
    """`read` gives None where the knob has nothing to turn."""

    ladder: tuple[float, ...]
    read: _Read
    write: Callable[[Tuned, float], Tuned]


def knobs_of(tuned: Tuned) -> Sequence[Knob]:
    """Those that can be turned here."""
    return [Knob(name, place.ladder) for name, place in _PLACES.items() if place.read(tuned) is not None]


def setting_of(tuned: Tuned) -> Setting:
    read = ((name, place.read(tuned)) for name, place in _PLACES.items())
    return tuple(sorted((name, value) for name, value in read if value is not None))


def with_setting(tuned: Tuned, setting: Setting | Mapping[str, float]) -> Tuned:
    """Knobs that are not named, and names of no knob here, change nothing."""
    for name, value in dict(setting).items():
        place = _PLACES.get(name)
        if place is not None and place.read(tuned) not in (None, value):
            tuned = place.write(tuned, value)
    return tuned


def _active_programs(tuned: Tuned, value: float) -> Tuned:
    return replace(tuned, limits=replace(tuned.limits, active_programs=max(1, int(value))))


def _kv_fill(tuned: Tuned, value: float) -> Tuned:
    return _admitting(tuned, replace(_admission(tuned), fill=value))


def _kv_idle_s(tuned: Tuned, value: float) -> Tuned:
    return _admitting(tuned, replace(_admission(tuned), idle_s=value))


def _price_margin(tuned: Tuned, value: float) -> Tuned:
    return _pricing(tuned, replace(_margin(tuned), least=value))


def _price_margin_most(tuned: Tuned, value: float) -> Tuned:
    return _pricing(tuned, replace(_margin(tuned), most=value))


def _price_backlog(tuned: Tuned, value: float) -> Tuned:
    return _pricing(tuned, replace(_margin(tuned), backlog=value))


def _admission(tuned: Tuned) -> Admission:
    assert tuned.limits.admission is not None
    return tuned.limits.admission


def _admitting(tuned: Tuned, admission: Admission) -> Tuned:
    return replace(tuned, limits=replace(tuned.limits, admission=admission))


def _margin(tuned: Tuned) -> Margin:
    assert tuned.rule.margin is not None
    return tuned.rule.margin


def _pricing(tuned: Tuned, margin: Margin) -> Tuned:
    return replace(tuned, rule=replace(tuned.rule, margin=margin))


def _in_admission(read: Callable[[Admission], float]) -> _Read:
    def found(tuned: Tuned) -> float | None:
        return None if tuned.limits.admission is None else read(tuned.limits.admission)

    return found


def _in_margin(read: Callable[[Margin], float]) -> _Read:
    def found(tuned: Tuned) -> float | None:
        return None if tuned.rule.margin is None else read(tuned.rule.margin)

    return found


_PROGRAMS = tuple(float(2**step) for step in range(2, 12))
_SHARES = (0.6, 0.7, 0.8, 0.9, 1.0)
_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MARGINS = (0.0, 0.05, 0.15, 0.3, 0.6, 1.2, 2.4, 4.0, 8.0, 16.0)
_BACKLOGS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

_PLACES: Mapping[str, _Place] = {
    "active_programs": _Place(_PROGRAMS, lambda tuned: float(tuned.limits.active_programs), _active_programs),
    "kv_fill": _Place(_SHARES, _in_admission(lambda admission: admission.fill), _kv_fill),
    "kv_idle_s": _Place(_SECONDS, _in_admission(lambda admission: admission.idle_s), _kv_idle_s),
    "price_margin": _Place(_MARGINS, _in_margin(lambda margin: margin.least), _price_margin),
    "price_margin_most": _Place(_MARGINS, _in_margin(lambda margin: margin.most), _price_margin_most),
    "price_backlog": _Place(_BACKLOGS, _in_margin(lambda margin: margin.backlog), _price_backlog),
}
