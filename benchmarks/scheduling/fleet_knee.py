"""How far the queue behind `halo fleet` is from an engine at iteration level, from light load up to the knee.

    python -m benchmarks.scheduling.fleet_knee [--calls 3000] [--seed 1] [--out FILE.json]

One modelled engine (continuous batching, chunked prefill, paged KV) in virtual time, by the profiles it is shipped
with; calls arrive at random. `planner.fleet` is given the same profile, and predicts how long a call takes on average
and what 95 % of them take for a token; both are told beside what the engine took. The knee is where the prediction
leaves 40 ms a token. Answers are alike, or as long as an exponential draw (`scattered`), of which the queue knows the
mean only.
"""

import argparse
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, quantiles
from typing import Any

from executor.engines.model.engine import EngineModel
from executor.engines.model.profiles import PROFILES
from planner.cost.model import replica_for
from planner.fleet.capacity import Capacities
from planner.fleet.kinds import EngineKind
from planner.fleet.occupancy import Occupancy
from planner.fleet.workload import CallClass, Slo

MODEL = "Llama-3-8B"
GPUS, LOADS = ("A100", "H100"), (0.3, 0.6, 0.8, 0.95)
CLASSES = (
    CallClass("short", MODEL, 300, 150),
    CallClass("long", MODEL, 4000, 300),
    CallClass("reading", MODEL, 6000, 40),
)
MAX_RUNNING = 256
BOUND = Slo(token_s=0.04)
_WARM_UP = 0.2  # of the calls: the engine begins empty

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Arriving:
    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class _Took:
    """`token_s` is what each token after the first took."""

    call_s: float
    token_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = [
        measure(gpu, call, load, asked.calls, asked.seed, scattered=scattered)
        for gpu in GPUS
        for call in CLASSES
        for scattered in (False, True)
        for load in LOADS
    ]
    print("\n".join(table(rows)))
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")


def measure(gpu: str, call: CallClass, load: float, calls: int, seed: int, *, scattered: bool) -> Row:
    profile = PROFILES[gpu]
    kind = EngineKind(gpu, MODEL, replica_for(gpu, MODEL), 1.0, profile, max_running=MAX_RUNNING)
    knee = Capacities({call: BOUND}, BOUND.share).calls_per_s(kind, call)
    rate = load * knee
    used = Occupancy(kind, {call: rate})
    arriving = list(arrivals(call, rate, calls, Random(f"{seed} {gpu} {call.name}"), scattered=scattered))
    kept = run(kind, arriving)[int(_WARM_UP * calls) :]
    return {
        "gpu": gpu,
        "calls": call.name,
        "scattered": scattered,
        "load": load,
        "calls_per_s": rate,
        "predicted_mean_s": used.mean_latency(call).call_s,
        "mean_s": fmean(one.call_s for one in kept),
        "predicted_token_s": used.latency(call).token_s,
        "token_s": quantiles([one.token_s for one in kept if one.token_s], n=20)[-1],
    }


def arrivals(call: CallClass, rate: float, calls: int, draw: Random, *, scattered: bool) -> Iterator[_Arriving]:
    now = 0.0
    for _ in range(calls):
        now += draw.expovariate(rate)
        output = max(1, round(draw.expovariate(1 / call.output_tokens))) if scattered else round(call.output_tokens)
        yield _Arriving(now, round(call.prompt_tokens), output)


def run(kind: EngineKind, arriving: Sequence[_Arriving]) -> list[_Took]:
    """In the order of arrival. No two share a prefix."""
    assert kind.profile is not None
    engine: EngineModel[int] = EngineModel(kind.profile, kind.max_running)
    took: dict[int, _Took] = {}
    due: list[tuple[float, int]] = [(one.at, number) for number, one in enumerate(arriving)]
    while due:
        now, number = heapq.heappop(due)
        if number >= 0:
            engine.submit(number, arriving[number].prompt_tokens, arriving[number].output_tokens, now)
        for ended in engine.advance(now):
            further = arriving[ended.id].output_tokens - 1
            took[ended.id] = _Took(now - arriving[ended.id].at, ended.decode_s / further if further else 0.0)
        at = engine.next_at()
        if at is not None and (not due or at < due[0][0]):
            heapq.heappush(due, (at, -1))
    return [took[number] for number in range(len(arriving))]


def table(rows: Sequence[Row]) -> list[str]:
    lines = ["GPU   calls    lengths    load  calls/s  mean s  predicted  error  P95 a token, ms  predicted  error"]
    for row in rows:
        lengths = "scattered" if row["scattered"] else "alike"
        where = f"{row['gpu']:5} {row['calls']:8} {lengths:9} {row['load']:5.2f}  {row['calls_per_s']:7.2f}"
        mean = f"{row['mean_s']:6.2f}  {row['predicted_mean_s']:9.2f}  {_error(row, 'mean_s'):+5.0%}"
        token = f"{1000 * row['token_s']:15.1f}  {1000 * row['predicted_token_s']:9.1f}  {_error(row, 'token_s'):+5.0%}"
        lines.append(f"{where}  {mean}  {token}")
    mean_error, token_error = (fmean(abs(_error(row, name)) for row in rows) for name in ("mean_s", "token_s"))
    return [
        *lines,
        "",
        f"mean absolute error: {mean_error:.0%} of the mean, {token_error:.0%} of a token's 95th percentile",
    ]


def _error(row: Row, figure: str) -> float:
    return float(row[f"predicted_{figure}"] / row[figure] - 1)


if __name__ == "__main__":
    main()
