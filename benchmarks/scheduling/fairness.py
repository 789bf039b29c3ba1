"""Tenants on one fleet: what a flood of one does to another, how equally they are served, and what that costs.

    python -m benchmarks.scheduling.fairness [--flood 10000] [--asked 300] [--rows 1500] [--out FILE.json]

Simulated: the product's own core, modelled engines, virtual time. Three questions:

- flood: a tenant asks one by one at a quarter of what the fleet can do; its P95 beside a neighbour that asks for a
  third, and beside one that hands in its programs all at once. Alone, and without turns, stand beside. Then beside a
  fifth as many programs, of which no two prompts begin alike, each as long as usual or four times as long.
- shares: two tenants with more than enough to do, one of programs three times as long: of any 60 s, the more served by
  the less, for weights 1:1 and 2:1.
- grouping: the same two jobs, whose prompts come in groups that begin alike, by turns and one after the other: the
  throughput that is kept.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from pathlib import Path
from statistics import quantiles

from benchmarks.scheduling.tenants import (
    LONG,
    SHARED_CHARS,
    SHORT,
    Outcome,
    batch,
    capacity_per_s,
    one_by_one,
    run,
    unlike,
)
from executor.core.limits import Limits
from executor.drivers.simulated import Arrival
from executor.policy.fairness import TenantShare

MOST_SLOWER, MOST_APART, LEAST_KEPT = 1.25, 1.2, 0.9
WINDOW_S, STEP_S = 60.0, 5.0


@dataclass(frozen=True, slots=True)
class Flood:
    """P95 from arrival to end, in seconds. Beside a neighbour that asks for no more than its share one has as much to
    bear as one is entitled to; alone one has all."""

    programs: int
    alone_s: float
    beside_neighbour_s: float
    beside_flood_s: float
    without_turns_s: float

    @property
    def by_neighbour(self) -> float:
        return self.beside_flood_s / self.beside_neighbour_s

    @property
    def by_alone(self) -> float:
        return self.beside_flood_s / self.alone_s


@dataclass(frozen=True, slots=True)
class Unlike:
    """Beside a flood of prompts of so many characters that have nothing in common, in seconds: P95 from arrival to end,
    and how much of the flood a second of the fleet did meanwhile."""

    chars: int
    weight: float
    alone_s: float
    beside_flood_s: float
    flood_per_s: float

    @property
    def by_alone(self) -> float:
        return self.beside_flood_s / self.alone_s


@dataclass(frozen=True, slots=True)
class Shares:
    """`apart` is the worst window's ratio of weighted service, of `windows` in which both waited all the time."""

    weight: float
    windows: int
    apart: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """Both jobs done, in seconds, and the share of prompt tokens that were in a cache."""

    by_turns_s: float
    in_a_row_s: float
    by_turns_cached: float
    in_a_row_cached: float

    @property
    def kept(self) -> float:
        return self.in_a_row_s / self.by_turns_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flood", type=int, default=10_000, help="programs that one tenant hands in at once")
    parser.add_argument("--asked", type=int, default=300, help="programs that the other asks for meanwhile")
    parser.add_argument("--rows", type=int, default=1500, help="of each of two batches")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rate = capacity_per_s()
    print(f"simulated, virtual time; the fleet does {rate:.2f} programs a second")
    flood = _flood(rate, asked.flood, asked.asked)
    long = [
        _unlike(rate, asked.flood // 5, asked.asked, chars, weight)
        for chars, weight in ((SHARED_CHARS, 1.0), (4 * SHARED_CHARS, 1.0), (4 * SHARED_CHARS, 3.0))
    ]
    shares = [_shares(asked.rows, weight) for weight in (1.0, 2.0)]
    grouping = _grouping(asked.rows)
    for line in _lines(flood, long, shares, grouping):
        print(line, flush=True)
    if asked.out:
        found = {"capacity": rate, "flood": asdict(flood), "shares": [asdict(one) for one in shares]}
        found |= {"unlike": [asdict(one) for one in long], "grouping": asdict(grouping)}
        asked.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    met = (
        max(flood.by_alone, *(one.by_alone for one in long)) <= MOST_SLOWER
        and grouping.kept >= LEAST_KEPT
        and max(s.apart for s in shares) <= MOST_APART
    )
    return 0 if met else 1


def _flood(rate: float, programs: int, count: int) -> Flood:
    mine = list(one_by_one("ann", rate / 4, count, seed=1))
    neighbour = list(one_by_one("eve", rate / 3, round(count * 4 / 3), seed=2))
    flood = batch("flood", "eve", programs, at=mine[len(mine) // 20].at)
    same = [Arrival(a.at, a.job, a.plan, a.table, tenant="one") for a in (*mine, flood)]
    settled_s = mine[len(mine) // 10].at
    return Flood(
        programs,
        _p95(run(mine), "ann", settled_s),
        _p95(run([*mine, *neighbour]), "ann", settled_s),
        _p95(run([*mine, flood]), "ann", settled_s),
        _p95(run(same), "ann", settled_s),
    )


def _unlike(rate: float, programs: int, count: int, chars: int, weight: float) -> Unlike:
    """`weight` is the other tenant's."""
    mine = list(one_by_one("ann", rate / 4, count, seed=1))
    flood = unlike("flood", "eve", programs, mine[len(mine) // 20].at, chars)
    settled_s, last_s = mine[len(mine) // 10].at, mine[-1].at
    beside = run([*mine, flood], Limits(tenants={"ann": TenantShare(weight=weight)}))
    done = sum(settled_s <= at < last_s for at in beside.jobs[flood.job].ended_at.values())
    alone_s = _p95(run(mine), "ann", settled_s)
    return Unlike(chars, weight, alone_s, _p95(beside, "ann", settled_s), done / (last_s - settled_s))


def _p95(outcome: Outcome, named: str, since_s: float) -> float:
    """Of the runs called so that came in after that instant."""
    mine = [a for a in outcome.arrivals.values() if a.job.startswith(f"{named}-") and a.at >= since_s]
    return quantiles([outcome.jobs[one.job].ended_at[0] - one.at for one in mine], n=20)[-1]


def _shares(rows: int, weight: float) -> Shares:
    limits = Limits(tenants={"eve": TenantShare(weight=weight)})
    outcome = run([batch("short", "ann", 2 * rows, plan=SHORT), batch("long", "eve", rows, plan=LONG)], limits)
    ratios = [_apart(outcome, begin_s, weight) for begin_s in _windows(outcome)]
    return Shares(weight, len(ratios), max(ratios))


def _windows(outcome: Outcome) -> Iterator[float]:
    """While programs of both run and others of both have not begun."""
    began = outcome.service.began_s.values()
    first_s, last_s = max(at[0] for at in began), min(at[-1] for at in began)
    return takewhile(lambda begin_s: begin_s + WINDOW_S <= last_s, count(first_s, STEP_S))


def _apart(outcome: Outcome, begin_s: float, weight: float) -> float:
    mine = outcome.service.within("ann", begin_s, begin_s + WINDOW_S)
    other = outcome.service.within("eve", begin_s, begin_s + WINDOW_S) / weight
    return max(mine, other) / max(1e-9, min(mine, other))


def _grouping(rows: int) -> Grouping:
    turns = run([batch("a", "ann", rows), batch("b", "eve", rows)])
    row = run([batch("a", "one", rows), batch("b", "one", rows)])
    ended_s = max(turns.ended_s("ann"), turns.ended_s("eve"))
    return Grouping(ended_s, row.ended_s("one"), turns.service.cached_share(), row.service.cached_share())


def _lines(flood: Flood, long: Sequence[Unlike], shares: Sequence[Shares], grouping: Grouping) -> Iterator[str]:
    yield f"flood of {flood.programs:,}: P95 of the other, in seconds"
    yield f"  alone {flood.alone_s:.2f}   beside a neighbour {flood.beside_neighbour_s:.2f}"
    yield f"  beside the flood {flood.beside_flood_s:.2f}   without turns {flood.without_turns_s:.2f}"
    yield f"  flood by neighbour {flood.by_neighbour:.2f}, by alone {flood.by_alone:.2f} (goal <= {MOST_SLOWER})"
    for each in long:
        yield (
            f"flood of unlike prompts of {each.chars:,} characters, the other's weight {each.weight:g}: "
            f"{each.beside_flood_s:.2f} s, by alone {each.by_alone:.2f} (goal <= {MOST_SLOWER}); "
            f"{each.flood_per_s:.2f} of the flood a second"
        )
    for one in shares:
        what = f"weights {one.weight:g}:1, worst of {one.windows} windows of {WINDOW_S:g} s"
        yield f"shares, {what}: {one.apart:.2f} (goal <= {MOST_APART})"
    yield (
        f"grouping: by turns {grouping.by_turns_s:.1f} s ({grouping.by_turns_cached:.0%} cached), in a row "
        f"{grouping.in_a_row_s:.1f} s ({grouping.in_a_row_cached:.0%}): {grouping.kept:.2f} kept (goal >= {LEAST_KEPT})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
