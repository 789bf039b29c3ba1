"""KV retention for agent programs, rung by rung: stock vLLM, what operator and client can do, Halo's rule, an oracle.

    python -m benchmarks.kv.ladder [--traces swe,bfcl] [--loads 0.3,0.8,1,1.25,1.5] [--closed 0.5,1,2,3] [--arms ...]
        [--rounds 5] [--programs 40] [--minutes 60] [--out FILE.json]
    python -m benchmarks.kv.ladder --virtual [--like REAL.json] ...
    python -m benchmarks.kv.ladder --merge FILE.json FILE.json ...

Programs are replayed with feedback: every prompt holds the tokens that this engine answered before, and tool pauses are
really waited for. Loads are multiples of the knee, the arrival rate at which tuned vLLM takes twice as long as with one
program at a time, and, for `--closed`, of the programs whose final contexts fill the KV cache.

Arms, each given the same programs in a round and an engine whose prefix cache is empty:

- `stock`: vLLM's defaults; `tuned`: the best of the flags swept (`benchmarks.kv.arms.SWEPT`);
- `priority`: tuned, `--scheduling-policy priority`, and the client sends each program's arrival as the priority;
- `fixed 2 s`, `paper TTL`: the plugin with the rules of Continuum, as released and as written (arXiv 2511.02230);
- `ours`: the plugin with its own rule; `ours untold`: no hint sent, programs inferred from their prompts;
- `ours told after` (only by name): each tool is told once the answer is there, as clients that parse it do;
- `door` (only by name, not in virtual time): tuned vLLM without the plugin, behind `halo serve`;
- `oracle`: the plugin told every pause beforehand;
- `stock again`: the noise.

The order of arms turns around each round. What does not fit into `--minutes` is skipped, and said so. `--virtual` runs
the same on vLLM's own scheduler with a virtual clock: all that decides is vLLM's code and the plugin's, and what a step
takes is a linear cost. With `--like`, it runs the loads of that real file, and says how far its prefilled tokens are
from the real ones. Needs `make engine`; each engine kept `--alive` takes about 2.5 GB.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.arguments import some_of
from benchmarks.kv.arms import ARMS, LADDER, Flags
from benchmarks.kv.climb import Ladder, Plan, plan_of
from benchmarks.kv.distributions import distributions_in
from benchmarks.kv.lab import EngineSize, Lab
from benchmarks.kv.ladder_report import Run, figures, read_runs, table
from benchmarks.kv.real_lab import ROOT, RealLab, cpu_recipe
from benchmarks.kv.traces import TRACES, Scale
from benchmarks.kv.virtual_lab import VirtualLab
from halo.event_loop import run_async

DATA = ROOT.parent / "shared" / "data"


def main() -> None:
    arguments = _arguments()
    if arguments.merge:
        tell(read_runs(arguments.merge))
        return
    ladder = Ladder(_plan(arguments), distributions_in(DATA), arguments.out)
    run_async(measure(ladder, _lab(ladder.plan.size, arguments)))
    tell(ladder.runs + read_runs([arguments.like] if arguments.like else ()), ladder.skipped)


def _lab(size: EngineSize, arguments: argparse.Namespace) -> Lab:
    return VirtualLab(size) if arguments.virtual else RealLab(partial(cpu_recipe, size), arguments.alive)


async def measure(ladder: Ladder, lab: Lab) -> None:
    """Climbs it, and closes the lab in any case."""
    try:
        await ladder.climb(lab)
    finally:
        await lab.close()


def tell(runs: Sequence[Run], skipped: Sequence[str] = (), device: str = "") -> None:
    """Prints the table and the JSON."""
    for line in (*table(runs), *(f"skipped: {what}" for what in skipped)):
        print(line)
    print(json.dumps(({"device": device} if device else {}) | {"figures": figures(runs)}))


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.like:
        return replace(plan_of(arguments.like), arms=arguments.arms, minutes=arguments.minutes)
    return asked_plan(arguments, EngineSize(kv_blocks=arguments.kv_blocks), Scale())


def asked_plan(arguments: argparse.Namespace, size: EngineSize, scale: Scale) -> Plan:
    """What the arguments of `ladder_parser` ask for."""
    return Plan(
        traces=arguments.traces,
        loads=arguments.loads,
        closed=arguments.closed,
        arms=arguments.arms,
        rounds=arguments.rounds,
        programs=arguments.programs,
        minutes=arguments.minutes,
        seed=arguments.seed,
        flags=arguments.flags,
        knees=arguments.knees,
        size=size,
        scale=scale,
    )


def _arguments() -> argparse.Namespace:
    parser = ladder_parser(__doc__)
    parser.add_argument("--kv-blocks", type=int, default=EngineSize().kv_blocks, help="of 32 tokens each")
    parser.add_argument("--alive", type=int, default=8, help="engines kept running side by side, one of them loaded")
    parser.add_argument("--virtual", action="store_true", help="simulate: vLLM's scheduler in virtual time")
    parser.add_argument("--like", type=Path, help="run what this file did, and compare with its runs")
    return parser.parse_args()


def ladder_parser(about: str | None) -> argparse.ArgumentParser:
    """What every ladder is asked for, whatever runs it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=some_of(tuple(TRACES)), default=["swe"])
    parser.add_argument("--loads", type=_numbers, default=[0.3, 0.8, 1.0, 1.25, 1.5], help="of the knee; '' for none")
    parser.add_argument("--closed", type=_numbers, default=[], help="of the KV cache, as in 0.5,1,1.5,2,3")
    parser.add_argument("--arms", type=some_of(tuple(ARMS)), default=list(LADDER))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--programs", type=int, default=40, help="in a round; a closed loop has at least two of each")
    parser.add_argument("--minutes", type=float, default=60.0, help="what does not fit is skipped, and said so")
    parser.add_argument("--seed", type=int, default=1, help="of the programs; each round has another")
    parser.add_argument("--flags", type=_flags, help="SEQS,TOKENS,LONG,WATERMARK of tuned vLLM, instead of a sweep")
    parser.add_argument("--knees", type=_knees, default={}, help="programs/s, as in swe=1.2,bfcl=2, instead of finding")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="only print the table of these files")
    return parser


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


def _flags(text: str) -> Flags:
    running, tokens, long, watermark = text.split(",")
    return Flags(int(running), int(tokens), int(long), float(watermark))


def _knees(text: str) -> dict[str, float]:
    return {trace: float(per_s) for trace, _, per_s in (pair.partition("=") for pair in text.split(","))}


if __name__ == "__main__":
    main()
