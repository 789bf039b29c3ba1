"""Programs that misbehave: does everybody get on, within what is promised?

    python -m benchmarks.kv.robustness [--programs 100000] [--at-once 16] [--engine light] [--cases all] [--seed 1]
                                       [--out FILE.json]

A closed loop of agents on one engine with room for about eight. Under a virtual clock, `light`: the plugin's deciders
over counted blocks, which is how 10^5 programs are done; `vllm`: vLLM's own scheduler and block pool (with
`.venv-engine`'s Python). `real`: the CPU vLLM that `make engine` built, with the plugin, in real time.
Each case runs beside one that asks for exactly the same, but tells the truth. `throughput` is the ratio of what both
finished in a second: what is not told, or told wrong, is KV kept in vain, and work done twice for those who lie or give
up. What is promised is `gain`: the same misuse finishes no slower than where nothing is kept and nobody is held, only
program order (not taken on a real engine). `held` is the longest that admission held a call (on a real engine: all that
a call took), `of bound` its share of what is promised (`policy.admission.Limits`); `kept` the largest share of the KV
kept for programs that wait, after any step (on a real engine: whenever it was looked at, four times a second).
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.arguments import some_of
from benchmarks.kv.light_engine import LightEngine
from benchmarks.kv.misuse import Misuse
from benchmarks.kv.misuse_run import Seen, Served, Traffic, run
from halo_vllm.programs import Programs
from halo_vllm.settings import Settings

KV_BLOCKS, BLOCK_TOKENS = 1536, 16
LEAST_GAIN = 1.0
#: What the gain is held against.
PLAIN: Mapping[str, Any] = MappingProxyType({"rule": "stock", "admission": False})
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})

CASES = {
    "tools never return": Misuse(never_return=0.1),
    "ends never told": Misuse(never_done=0.3),
    "random tool names": Misuse(random_tools=True),
    "hostile hints": Misuse(liars=0.1, flood=50),
    "calls given up": Misuse(given_up=0.05),
    "cache resets": Misuse(reset_every_s=60.0),
    "all of it": Misuse(0.1, 0.3, 0.1, 0.05, random_tools=True, flood=50, reset_every_s=60.0),
    "endless programs": Misuse(endless=40),
}


#: Each time on an engine of its own.
Run = Callable[[Traffic, Misuse], Seen]


@dataclass(frozen=True, slots=True)
class Engine:
    """`programs` of a case, unless told. `plain`: without retention and admission."""

    run: Run
    programs: int
    plain: Run | None = None


@dataclass(frozen=True, slots=True)
class Result:
    case: str
    seen: Seen
    honest: Seen
    plain: Seen | None
    wall_s: float
    resident_mib: float

    @property
    def throughput(self) -> float:
        return self.seen.calls_per_s / self.honest.calls_per_s

    @property
    def gain(self) -> float | None:
        return self.seen.calls_per_s / self.plain.calls_per_s if self.plain is not None else None

    @property
    def problems(self) -> list[str]:
        found = [f"{told} ({times} times)" for told, times in self.seen.problems.values()]
        if self.gain is not None and self.gain < LEAST_GAIN:
            found.append(f"slower than with nothing kept: {self.gain:.3f}x")
        return found


def main() -> None:
    arguments = _arguments()
    engine = ENGINES[arguments.engine]
    print(HEAD)
    results = []
    traffic = Traffic(arguments.programs or engine.programs, arguments.at_once, arguments.seed)
    for result in measure(arguments.cases, traffic, engine):
        results.append(result)
        print(_line(result), flush=True)
    report = {"engine": arguments.engine, "programs": traffic.programs, "cases": [_figures(r) for r in results]}
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1))


def measure(cases: Sequence[str], traffic: Traffic, engine: Engine) -> Iterator[Result]:
    for case in cases:
        began_s = time.perf_counter()
        seen = engine.run(traffic, CASES[case])
        honest = engine.run(replace(traffic, honest=True), CASES[case])
        plain = engine.plain(traffic, CASES[case]) if engine.plain is not None else None
        resident_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield Result(case, seen, honest, plain, time.perf_counter() - began_s, resident_mib)


def light(settings: Mapping[str, Any] = NO_SETTINGS) -> LightEngine:
    return LightEngine(Programs(Settings(**settings), KV_BLOCKS, BLOCK_TOKENS), KV_BLOCKS, BLOCK_TOKENS)


def on_vllm(settings: Mapping[str, Any] = NO_SETTINGS) -> Served:
    from benchmarks.kv.vllm_served import VllmServed

    return VllmServed(KV_BLOCKS, BLOCK_TOKENS, settings)


def on_real(traffic: Traffic, misuse: Misuse) -> Seen:
    from benchmarks.kv.misuse_real import run_real

    return run_real(traffic, misuse)


def _on(engine: Callable[[Mapping[str, Any]], Served], settings: Mapping[str, Any] = NO_SETTINGS) -> Run:
    return lambda traffic, misuse: run(traffic, misuse, engine(settings))


ENGINES = {
    "light": Engine(_on(light), 100_000, _on(light, PLAIN)),
    "vllm": Engine(_on(on_vllm), 10_000, _on(on_vllm, PLAIN)),
    "real": Engine(on_real, 1_000),
}

HEAD = (
    f"{'case':<20} {'programs':>8} {'calls':>8} {'throughput':>10} {'gain':>7} {'held':>8} {'of bound':>8} {'kept':>6} "
    f"{'largest table':>26} {'wall':>7} problems"
)


def _line(result: Result) -> str:
    seen = result.seen
    table, entries = max(seen.tables.items(), key=lambda table: table[1], default=("not seen", 0))
    return (
        f"{result.case:<20} {seen.programs:>8} {seen.calls:>8} {result.throughput:>9.3f}x {_ratio(result.gain):>7} "
        f"{seen.held_s:>6.1f} s "
        f"{seen.of_bound:>8.2f} {seen.kept_share:>6.2f} {f'{table} {entries}':>26} {result.wall_s:>5.0f} s "
        f"{'; '.join(result.problems) or 'none'}"
    )


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}x"


def _figures(result: Result) -> dict[str, object]:
    return asdict(result) | {"throughput": result.throughput, "gain": result.gain, "problems": result.problems}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, help="programs of each case: 10^5, 10^4, 10^3 by engine")
    parser.add_argument("--at-once", type=int, default=16, help="of them, each followed by another")
    parser.add_argument("--engine", choices=tuple(ENGINES), default="light")
    parser.add_argument("--cases", type=some_of(tuple(CASES)), default=list(CASES), help="some of them, with commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
