"""A schedule: when each micro-batch runs where, and when engines load which model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One micro-batch of an operator. It occupies its engine from `start_s` to `end_s`; its answers are there later."""

    operator: int
    batch: int
    engine: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """`engine` is taken by loading `model`; the evicted ones are gone from `start_s` on."""

    engine: int
    model: int
    start_s: float
    end_s: float
    evicts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """`runs` and `loads` in the order in which they begin. The makespan counts to the last answer."""

    runs: tuple[Run, ...]
    loads: tuple[Load, ...]
    makespan_s: float
