"""What a user may set: the `halo` part of vLLM's `--additional-config`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from halo_vllm.policy.retention import RULES

ORDERS = ("rank", "youngest")
KEEPS = ("rank", "pin")


class BadSettings(ValueError):
    """All that is wrong with the settings, each with its fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`rule`: of `policy.retention.RULES`. `order`: who gives way when room is wanted. `keep`: `pin` makes kept blocks
    used ones, as Continuum does. `admission`: whether new programs wait until they fit beside the active ones in `fill`
    of the KV, with `turns_ahead` turns of growth; after `idle_s` with nothing to run one is let in that does not fit.
    `infer`: whether calls without a program's name are matched by their prompts. `share`, `tenant_share`: the most KV
    that may be kept.
    """

    rule: str = "halo"
    order: str = "rank"
    keep: str = "rank"
    admission: bool = True
    infer: bool = True
    turns_ahead: float = 1.0
    share: float = 0.9
    tenant_share: float = 0.5
    idle_s: float = 1.0
    fill: float = 0.9


def read_settings(given: Mapping[str, object]) -> Settings:
    """Raises `BadSettings`."""
    known = {field.name: field.default for field in fields(Settings)}
    problems = [f"{name!r} is no setting: use one of {', '.join(known)}" for name in given if name not in known]
    problems += [
        f"{name}={value!r} should be a {type(known[name]).__name__}"
        for name, value in given.items()
        if name in known and not _fits(value, known[name])
    ]
    for name, choices in (("rule", tuple(RULES)), ("order", ORDERS), ("keep", KEEPS)):
        if given.get(name, known[name]) not in choices:
            problems.append(f"{name}={given[name]!r}: use one of {', '.join(choices)}")
    if problems:
        raise BadSettings("--additional-config, part `halo`: " + "; ".join(problems))
    return Settings(**given)  # type: ignore[arg-type]


def _fits(value: object, default: object) -> bool:
    if isinstance(default, bool) or not isinstance(default, float):
        return isinstance(value, type(default))
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
