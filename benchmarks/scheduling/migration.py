"""Migration as a routing choice: programs whose next turn may leave the engine that has its KV.

    python -m benchmarks.scheduling.migration [--programs 8] [--context 11000] [--turns 14] [--rounds 5] [--out FILE]

Two real CPU engines, one core each, share a KV tier. Programs with long contexts come to them through Halo's door; each
makes several turns with tools between. Contexts are so long that reading them and looking back at them is what engines
do; who shares an engine with many waits for many.

`skewed`: every other program is long; the rest have a quarter of its context and one turn. Dealt out by turns, one
engine gets all long ones, as can happen to any rule that binds sessions when they begin.
`ending`: all begin alike, and every other one ends after its first turn, which nobody knows before.
`balanced`: all are alike.

| arm | rule |
|---|---|
| `sticky` | sessions are dealt out by turns and stay: each engine behind a door of its own |
| `again` | the same once more: how much of a ratio is noise |
| `foreseen` | sessions are dealt out evenly, by one who knows how much each will ask for, and stay |
| `unaware` | Halo's routing without knowing of the tier: to move is to read the prompt anew |
| `migration` | Halo's routing with the tier: waiting + loading + answering, and a move must gain its cost once more |

All arms run on the same engines with the same tier; only what is believed of it differs. Each round runs all arms with
the same programs, under a salt of their own, in an order that is turned around every round. Measured first: how fast
the tier loads, and what one program takes alone, and while the other engine has one like it (on hosts of their own:
the same). Beside each load stands what no rule can beat (`benchmarks.scheduling.migration_bound`). Goals: mean
completion of `sticky` to `migration` >= 1.3 skewed, and >= 0.98 balanced.

Needs `make engine` and a quiet machine.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import structlog

from benchmarks.arguments import some_of
from benchmarks.intervals import ratio_interval
from benchmarks.scheduling.migration_bound import least_mean_s
from benchmarks.scheduling.migration_lab import (
    KV_BLOCKS,
    AgentProgram,
    Ran,
    Turn,
    doors_on,
    engines_with_tier,
    run_load,
    tier_gb_per_s,
)
from executor.core.tiers import kv_bytes_per_token
from executor.drivers.door import Door
from executor.engines.port import EngineSpec

LOADS = ("skewed", "ending", "balanced")
ARMS = ("sticky", "again", "foreseen", "unaware", "migration")
GOALS = {"skewed": 1.3, "balanced": 0.98}
SHARED_MEMORY = Path("/dev/shm")
ANSWER_TOKENS, NEW_TOKENS, TOOL_S, GAP_S = 100, 150, 0.2, 0.2

Row = dict[str, Any]
DoorT = TypeVar("DoorT")
#: The tokens of a program's first prompt, and its turns.
Kind = tuple[int, int]


def main() -> None:
    asked = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    report = asyncio.run(measure(asked))
    print("\n".join(table(report)))
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n")


async def measure(asked: argparse.Namespace) -> Row:
    with tempfile.TemporaryDirectory(prefix="halo-kv-", dir=SHARED_MEMORY) as folder:
        async with engines_with_tier(Path(folder), (0, 1), asked.kv_blocks) as specs:
            speed = await tier_gb_per_s(specs, kv_bytes_per_token(specs[0]))
            told = [replace(spec, kv_tier_gb_per_s=speed) for spec in specs]
            alone = await _alone(told, asked)
            rows = [row for load in asked.loads for row in await _rounds(load, told, alone, asked)]
    loads = [summary(load, rows) for load in asked.loads]
    return {"tier_gb_per_s": speed, "alone": [asdict(one) for one in alone.values()], "rounds": rows, "loads": loads}


@dataclass(frozen=True, slots=True)
class Alone:
    """What a program takes with an engine to itself, and while the other engine has one like it: on the quicker one."""

    context: int
    turns: int
    seconds: float
    beside_s: float


async def _alone(specs: Sequence[EngineSpec], asked: argparse.Namespace) -> dict[Kind, Alone]:
    found = {}
    for kind in dict.fromkeys(kind for load in asked.loads for kind in kinds_of(load, asked.context, asked.turns)):
        async with _doors("sticky", specs) as doors:
            places = [(_program(f"alone {kind} {number}", 0.0, *kind), door) for number, door in enumerate(doors)]
            each = [(await run_load([place], "alone"))[0].seconds for place in places]
            beside = min(ran.seconds for ran in await run_load(places, "beside"))
        found[kind] = Alone(*kind, min(each), beside)
        print(f"alone, {kind[0]:,} tokens, {kind[1]} turns: {min(each):.2f} s, beside {beside:.2f} s", file=sys.stderr)
    return found


async def _rounds(
    load: str, specs: Sequence[EngineSpec], alone: Mapping[Kind, Alone], asked: argparse.Namespace
) -> list[Row]:
    rows = []
    kinds = kinds_of(load, asked.context, asked.turns)
    for number in range(asked.rounds):
        programs = make_load(load, asked.programs, asked.context, asked.turns, f"{load} {number}")
        for arm in asked.arms if number % 2 == 0 else reversed(asked.arms):
            async with _doors(arm, specs) as doors:
                ran = await run_load(places_of(arm, programs, doors), f"{load} {number} {arm}")
            row = {"load": load, "round": number, "arm": arm, "programs": [asdict(one) for one in ran], **_means(ran)}
            if arm == "sticky":
                alone_s = [alone[kinds[number % 2]].seconds for number in range(len(ran))]
                row["bound_s"] = least_mean_s(ran, alone_s, len(specs))
            print(f"{load}, round {number + 1}, {arm}: {row['mean_s']:.2f} s", file=sys.stderr)
            rows.append(row)
    return rows


@asynccontextmanager
async def _doors(arm: str, specs: Sequence[EngineSpec]) -> AsyncIterator[list[Door]]:
    unaware = [replace(spec, kv_tier="") for spec in specs]
    fleets = {"unaware": [unaware], "migration": [specs]}
    async with doors_on(fleets.get(arm, [[spec] for spec in specs])) as doors:
        yield doors


def places_of(arm: str, programs: Sequence[AgentProgram], doors: Sequence[DoorT]) -> list[tuple[AgentProgram, DoorT]]:
    """By turns as they come; foreseen: who asks for most goes first, to the door with the least so far."""
    if arm != "foreseen":
        return [(program, doors[number % len(doors)]) for number, program in enumerate(programs)]
    dealt, given = {}, [0] * len(doors)
    for program in sorted(programs, key=lambda one: (-one.tokens_read, one.arrives_s)):
        place = given.index(min(given))
        given[place] += program.tokens_read
        dealt[program.name] = doors[place]
    return [(program, dealt[program.name]) for program in programs]


def make_load(load: str, programs: int, context: int, turns: int, seed: str) -> list[AgentProgram]:
    """In the order they come. The first, third, ... are long in every load."""
    kinds = kinds_of(load, context, turns)
    return [_program(f"{seed} {number}", number * GAP_S, *kinds[number % 2]) for number in range(programs)]


def kinds_of(load: str, context: int, turns: int) -> tuple[Kind, Kind]:
    """The long ones, and the others."""
    others = {"skewed": (context // 4, 1), "ending": (context, 1), "balanced": (context, turns)}[load]
    return (context, turns), others


def _program(name: str, arrives_s: float, context: int, turns: int) -> AgentProgram:
    first = Turn(context, ANSWER_TOKENS, TOOL_S)
    return AgentProgram(name, arrives_s, (first, *(Turn(NEW_TOKENS, ANSWER_TOKENS, TOOL_S) for _ in range(turns - 1))))


def _means(ran: Sequence[Ran]) -> Row:
    return {
        "mean_s": fmean(one.seconds for one in ran),
        "slowest_s": max(one.seconds for one in ran),
        "moves": sum(one.moves for one in ran),
        "cached_share": sum(one.cached_tokens for one in ran) / sum(one.prompt_tokens for one in ran),
    }


def summary(load: str, rows: Sequence[Row]) -> Row:
    """Each arm's means over the rounds, and what `sticky` takes to what it does, round by round."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["load"] == load:
            found.setdefault(row["arm"], []).append(row)
    sticky = {row["round"]: row["mean_s"] for row in found.get("sticky", [])}
    arms = {}
    for arm, of_arm in found.items():
        pairs = [(sticky[row["round"]], row["mean_s"]) for row in of_arm if row["round"] in sticky]
        figures = {
            name: fmean(row[name] for row in of_arm) for name in ("mean_s", "slowest_s", "moves", "cached_share")
        }
        arms[arm] = figures | {"sticky_to_it": ratio_interval(pairs) if pairs else None}
    bounds = [(row["mean_s"], row["bound_s"]) for row in found.get("sticky", [])]
    return {"load": load, "goal": GOALS.get(load), "arms": arms, "sticky_to_bound": _of_bound(bounds)}


def _of_bound(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    return ratio_interval(pairs) if pairs else None


def table(report: Row) -> list[str]:
    lines = [f"the tier loads {report['tier_gb_per_s']:.2f} GB/s"]
    for one in report["alone"]:
        told = f"{one['seconds']:.2f} s alone, {one['beside_s']:.2f} s beside one on the other engine"
        lines.append(f"{one['context']:,} tokens, {one['turns']} turns: {told}")
    for load in report["loads"]:
        lines += ["", f"{load['load']:10} mean, s  slowest, s  moves  cached  sticky to it  95 %"]
        lines += [_line(arm, figures) for arm, figures in load["arms"].items()]
        ratio = (load["arms"].get("migration") or {}).get("sticky_to_it")
        if load["sticky_to_bound"]:
            lines.append(f"sticky to what no rule can beat: {load['sticky_to_bound'][0]:.2f}x")
        if ratio and load["goal"]:
            verdict = "reached" if ratio[0] >= load["goal"] else "missed"
            lines.append(f"goal {load['goal']}: {verdict}")
    return lines


def _line(arm: str, figures: Row) -> str:
    ratio = figures["sticky_to_it"]
    compared = f"{ratio[0]:11.2f}x  {ratio[1]:.2f} .. {ratio[2]:.2f}" if ratio else ""
    times = f"{figures['mean_s']:7.2f}  {figures['slowest_s']:10.2f}  {figures['moves']:5.1f}"
    return f"{arm:10} {times}  {figures['cached_share']:6.0%}  {compared}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=8)
    parser.add_argument("--context", type=int, default=11_000, help="tokens of a long program's first prompt")
    parser.add_argument("--turns", type=int, default=14, help="of a long program")
    parser.add_argument(
        "--kv-blocks", type=int, default=KV_BLOCKS, help="of 32 tokens, of each engine; 1024 hold two long programs"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", type=some_of(LOADS), default=list(LOADS))
    parser.add_argument("--arms", type=some_of(ARMS), default=list(ARMS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
