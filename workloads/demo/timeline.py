"""When each engine was at work, as shapes for a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workloads.demo.account import Account, Span

WIDTH, HEIGHT = 960, 54
BINS = 240
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Lane:
    """Calls inside over time. `shape` is an SVG path, `WIDTH` wide; `most` calls inside are `HEIGHT` high."""

    name: str
    note: str
    shape: str
    most: int


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    label: str


def lane(name: str, note: str, spans: Sequence[Span], makespan_s: float, most: int | None = None) -> Lane:
    """`most` is the highest level there was unless given."""
    levels = levels_of(spans, makespan_s)
    highest = most or max(1, round(max(levels, default=0.0) + 0.5))
    return Lane(name, note, _area(levels, highest), highest)


def levels_of(spans: Sequence[Span], makespan_s: float, bins: int = BINS) -> list[float]:
    """How many spans ran on average in each of `bins` equal parts of the makespan."""
    levels = [0.0] * bins
    if makespan_s <= 0:
        return levels
    width_s = makespan_s / bins
    for span in spans:
        for number in range(int(span.began_s / width_s), min(bins, int(span.ended_s / width_s) + 1)):
            from_s, to_s = max(span.began_s, number * width_s), min(span.ended_s, (number + 1) * width_s)
            levels[number] += max(0.0, to_s - from_s) / width_s
    return levels


def rows_line(account: Account) -> str:
    """An SVG path: rows ended over time, all of them at the top."""
    times, makespan_s = account.rows_ended_s, account.makespan_s
    if not times or makespan_s <= 0:
        return ""
    points = [(0.0, 0.0), *((time / makespan_s, number / len(times)) for number, time in enumerate(times, 1))]
    steps = [f"H{WIDTH * x:.1f}V{HEIGHT * (1 - y):.1f}" for (_, _), (x, y) in pairwise(points)]
    return f"M0,{HEIGHT}{''.join(steps)}"


def ticks(makespan_s: float, wanted: int = 8) -> list[Tick]:
    """Round instants, about `wanted` of them."""
    step_s = next((step for step in TICKS_S if makespan_s / step <= wanted), TICKS_S[-1])
    if makespan_s <= 0:
        return []
    return [Tick(WIDTH * at * step_s / makespan_s, f"{at * step_s:g} s") for at in range(int(makespan_s / step_s) + 1)]


def _area(levels: Sequence[float], most: int) -> str:
    step = WIDTH / len(levels)
    tops = [f"V{HEIGHT * (1 - min(1.0, level / most)):.1f}H{(at + 1) * step:.1f}" for at, level in enumerate(levels)]
    return f"M0,{HEIGHT}{''.join(tops)}V{HEIGHT}Z"
