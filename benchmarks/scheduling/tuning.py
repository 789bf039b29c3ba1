"""What tuning brings where traffic drifts: the setting in force, the tuned one, and the best there is, in virtual time.

    python -m benchmarks.scheduling.tuning [--programs 120] [--seeds 3] [--out FILE.json]

Each phase of a drifting day is other traffic on the same engines: short questions with deadlines, long conversations
whose contexts together are several times the engines' KV, and both at once. Of each phase a first part is what the
tuner sees; the figures are of the second part, which it has not seen. Three arms run it: the default setting, the
setting found in the phase before (`stale`: what a setting tuned once and left would do), and the one found on this
phase's first part, if the guard lets it pass (`tuned`). The `best` is the best setting of the whole ladder of each knob
on the second part itself: no tuner can know it. A figure is the cost that the tuner minimises, over the default's;
below 1 is better. With the arm `unguarded` every candidate is taken, to show what the guard is for.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import halo
from executor.core.knobs import Tuned, knobs_of, setting_of, with_setting
from executor.core.limits import Limits
from executor.drivers.shadow import Effort, simulated_cost, tune
from executor.drivers.simulated import Arrival, Simulation
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from executor.policy.rules import RULES
from executor.policy.tuning import Setting, changed
from executor.recording import Recording, record
from planner.ir.ids import EngineId, JobId, NodeRef
from planner.ir.plan import Plan, ToolSpec
from planner.ir.values import Json
from planner.table import Table

MODEL = "llama-8b"
ARMS = ("stale", "tuned", "unguarded", "best")
EFFORT = Effort(turns=2, samples=3, last_samples=5)


@halo.llm(model=MODEL, max_tokens=64)
def answer(text: str) -> str:
    return f"Answer shortly: {text}"


@halo.llm(model=MODEL, max_tokens=48)
def think(text: str) -> str:
    return f"{text}\n\nWhat follows from it?"


@halo.workflow
def question(text: str) -> str:
    return answer(answer(text))


@halo.workflow
def conversation(text: str) -> str:
    first = think(text)
    second = think(f"{text}\n{first}")
    third = think(f"{text}\n{first}\n{second}")
    return think(f"{text}\n{first}\n{second}\n{third}")


@dataclass(frozen=True, slots=True)
class Phase:
    """`long` is the share of programs that are conversations; `every_s` lies between two programs, on average."""

    name: str
    long: float
    every_s: float


PHASES = (Phase("short", 0.0, 0.04), Phase("long", 1.0, 0.6), Phase("both", 0.3, 0.25), Phase("short again", 0.0, 0.04))


class Words:
    """A `World`: answers of drawn lengths, no tools."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        draw = Random(f"{self._seed} {node}")
        tokens = max(8, round(request.sampling.max_tokens * draw.uniform(0.3, 1.0)))
        return Answer(f"{draw.getrandbits(64):016x} " + "word " * tokens, output_tokens=tokens)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Any) -> tuple[Json, float]:
        raise AssertionError("there are no tools")


def main() -> None:
    arguments = _arguments()
    points = [point for seed in range(arguments.seeds) for point in asyncio.run(_day(arguments.programs, seed))]
    print(_table(points))
    print(json.dumps(points))
    if arguments.out:
        arguments.out.write_text(json.dumps(points, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=120, help="of each part of a phase")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


async def _day(programs: int, seed: int) -> list[dict[str, Any]]:
    fleet, default = _fleet(), Tuned(Limits(), RULES["halo"])
    stale, points = setting_of(default), list[dict[str, Any]]()
    for number, phase in enumerate(PHASES):
        seen, unseen = [await _traffic(phase, programs, seed * 100 + 2 * number + part, fleet) for part in (0, 1)]
        found = tune(seen, fleet, default, effort=EFFORT, seed=seed)
        tuned = found.chosen if found.better else found.current
        base = simulated_cost(unseen, fleet, default)

        def ratio(setting: Setting, unseen: Recording = unseen, base: float = base) -> float:
            return simulated_cost(unseen, fleet, with_setting(default, setting)) / base

        best = min(((ratio(one), one) for one in _ladders(default)), default=(1.0, setting_of(default)))
        costs = {"stale": ratio(stale), "tuned": ratio(tuned), "unguarded": ratio(found.chosen), "best": best[0]}
        points.append({"phase": phase.name, "seed": seed, **costs, "taken": found.better, "setting": dict(tuned)})
        stale = tuned
    return points


def _ladders(tuned: Tuned) -> Iterator[Setting]:
    """Every step of one knob alone."""
    current = setting_of(tuned)
    yield current
    for knob in knobs_of(tuned):
        for step in knob.ladder:
            yield changed(current, {knob.name: step})


async def _traffic(phase: Phase, programs: int, seed: int, fleet: Sequence[EngineSpec]) -> Recording:
    """As it went under the default setting."""
    draw, at, arrivals = Random(seed), 0.0, list[Arrival]()
    for number in range(programs):
        at += draw.expovariate(1 / phase.every_s)
        is_long = draw.random() < phase.long
        plan: Plan = conversation.plan if is_long else question.plan
        text = " ".join(f"{draw.getrandbits(24):06x}" for _ in range(2600 if is_long else 12))
        deadline_s = None if is_long else at + 2.0
        table = Table.from_rows([{"text": text}], plan.inputs)
        arrivals.append(Arrival(at, JobId(f"{seed}-{number}"), plan, table, deadline_s=deadline_s))
    simulation = Simulation(fleet, Words(seed))
    await simulation.run(arrivals)
    return record(simulation.events)


def _fleet() -> list[EngineSpec]:
    """Unlike engines whose KV holds a few conversations."""
    kinds = (("big", "A100", 24_000), ("small", "L4", 12_000))
    return [
        EngineSpec(EngineId(name), "modelled", (MODEL,), gpu=gpu, max_running=64, kv_tokens=kv_tokens)
        for name, gpu, kv_tokens in kinds
    ]


def _table(points: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'phase':>12} " + " ".join(f"{arm:>10}" for arm in ARMS) + "  taken"]
    for phase in dict.fromkeys(point["phase"] for point in points):
        of_phase = [point for point in points if point["phase"] == phase]
        cells = " ".join(f"{fmean(point[arm] for point in of_phase):>10.3f}" for arm in ARMS)
        lines.append(f"{phase:>12} {cells}  {sum(point['taken'] for point in of_phase)} of {len(of_phase)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
