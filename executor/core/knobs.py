"""What of the core's bounds and of its rule may be tuned: each knob by name, with the steps it may take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from executor.core.limits import Limits
from executor.policy.rules import Rule
from executor.policy.tuning import Knob, Setting


@dataclass(frozen=True, slots=True)
class Tuned:
    """The bounds and the rule that the core works by."""

    limits: Limits
    rule: Rule


@dataclass(frozen=True, slots=True)
class _Place:
    """`read` gives None where the knob has nothing to turn."""

    ladder: tuple[float, ...]
    read: Callable[[Tuned], float | None]
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
    return replace(tuned, limits=replace(tuned.limits, active_programs=int(value)))


def _admission(name: str) -> _Place:
    def read(tuned: Tuned) -> float | None:
        admission = tuned.limits.admission
        return None if admission is None else float(getattr(admission, name))

    def write(tuned: Tuned, value: float) -> Tuned:
        assert tuned.limits.admission is not None
        admission = replace(tuned.limits.admission, **{name: value})
        return replace(tuned, limits=replace(tuned.limits, admission=admission))

    return _Place(_LADDERS[name], read, write)


def _margin(name: str) -> _Place:
    def read(tuned: Tuned) -> float | None:
        return None if tuned.rule.margin is None else float(getattr(tuned.rule.margin, name))

    def write(tuned: Tuned, value: float) -> Tuned:
        assert tuned.rule.margin is not None
        return replace(tuned, rule=replace(tuned.rule, margin=replace(tuned.rule.margin, **{name: value})))

    return _Place(_LADDERS[name], read, write)


_LADDERS: Mapping[str, tuple[float, ...]] = {
    "fill": (0.6, 0.7, 0.8, 0.9, 1.0),
    "idle_s": (0.25, 0.5, 1.0, 2.0, 4.0),
    "least": (0.0, 0.05, 0.15, 0.3, 0.6, 1.2),
    "most": (0.0, 0.05, 0.15, 0.3, 0.6, 1.2, 2.4),
}
_PROGRAMS = tuple(float(2**step) for step in range(2, 12))

_PLACES: Mapping[str, _Place] = {
    "active_programs": _Place(_PROGRAMS, lambda tuned: float(tuned.limits.active_programs), _active_programs),
    "kv_fill": _admission("fill"),
    "kv_idle_s": _admission("idle_s"),
    "price_margin": _margin("least"),
    "price_margin_hungry": _margin("most"),
}
