"""How fast a fleet is simulated: the scheduler core, the simulated driver and the modelled engines, in one process.

    python -m benchmarks.scheduling.simulator [--calls 100000,1000000] [--engines 256] [--seeds 3] [--out FILE.json]

Text-to-SQL programs of four calls and a tool come in by Poisson; the fleet is of three GPU kinds and about as loaded as
it can be. An event is one that the core handles, or one iteration of an engine. Each size runs in a process of its own,
once for each of some values of PYTHONHASHSEED: the digests of all commands must be equal. Seconds include drawing the
programs. Memory is the peak RSS of the process.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from random import Random
from zlib import crc32

from benchmarks.scheduling.tenants import as_written
from executor.commands import Command
from executor.core.limits import Limits
from executor.drivers.simulated import Arrival, Simulation
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from executor.events import Event
from planner.ir.expressions import Column, Concat, Const, Expr, Field, Object, Output
from planner.ir.ids import EngineId, JobId, NodeRef, StageId
from planner.ir.plan import Generate, Input, Message, Plan, Sampling, Stage, Tool, ToolSpec
from planner.ir.values import Json
from planner.table import Table

ROOT = Path(__file__).resolve().parents[2]
EVENTS_PER_S, MILLION_S, MILLION_GB = 40_000, 600.0, 4.0
CALLS_PER_PROGRAM, PROGRAMS_PER_JOB = 4, 50
GPUS = ("A100", "A6000", "L40S")
DATABASES = 200
#: Of one engine, on average over the kinds: what keeps the fleet about as busy as it can be.
CALLS_PER_ENGINE_S = 3.0
ANSWER_TOKENS = (40, 160)
TOOL_S = (0.05, 0.5)
LIMITS_PER_ENGINE = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `cpu_s` is what the process had of the machine in `seconds`, `virtual_s` how long the fleet took;
    `events` are those of the core."""

    calls: int
    engines: int
    seconds: float
    cpu_s: float
    virtual_s: float
    events: int
    iterations: int
    peak_gb: float
    digest: str

    @property
    def events_per_s(self) -> float:
        return (self.events + self.iterations) / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="100000,1000000")
    parser.add_argument("--engines", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3, help="how many values of PYTHONHASHSEED")
    parser.add_argument(
        "--here", action="store_true", help="one run of one size in this process; prints a line of JSON"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sizes = [int(calls) for calls in asked.calls.split(",")]
    if asked.here:
        print(json.dumps(asdict(measure(sizes[0], asked.engines))))
        return 0
    found = {calls: [_in_process(calls, asked.engines, seed) for seed in range(asked.seeds)] for calls in sizes}
    for runs in found.values():
        _print(runs)
    if asked.out:
        asked.out.write_text(json.dumps([asdict(run) for runs in found.values() for run in runs], indent=2) + "\n")
    return 0 if all(_reached(runs) for runs in found.values()) else 1


def measure(calls: int, engines: int) -> Measured:
    begun = time.perf_counter()
    told = _Digest()
    fleet = [_engine(number) for number in range(engines)]
    limits = Limits(active_programs=LIMITS_PER_ENGINE * engines)
    simulation = Simulation(fleet, Drawn(), limits, plan_job=as_written, listener=told)
    asyncio.run(simulation.run(list(_arrivals(calls // CALLS_PER_PROGRAM, engines))))
    return Measured(
        calls=calls,
        engines=engines,
        seconds=time.perf_counter() - begun,
        cpu_s=time.process_time(),
        virtual_s=simulation.now,
        events=told.events,
        iterations=simulation.iterations,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
        digest=told.digest(),
    )


class Drawn:
    """A `World`: how long answers are, what they say and how long tools run is drawn from the node's name."""

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        drawn = _draw(node)
        least, most = ANSWER_TOKENS
        return Answer(f"SELECT {drawn} FROM t JOIN u USING (id) WHERE a > {drawn}", (), least + drawn % (most - least))

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        drawn = _draw(node)
        least, most = TOOL_S
        return f"{drawn} rows", least + (most - least) * (drawn % 1000) / 1000


class _Digest:
    """Hears every event with the commands it led to."""

    def __init__(self) -> None:
        self.events = 0
        self._hash = blake2b(digest_size=16)

    def __call__(self, event: Event, commands: Sequence[Command]) -> None:
        self.events += 1
        for command in commands:
            self._hash.update(_name(command).encode())

    def digest(self) -> str:
        return self._hash.hexdigest()


def _name(command: Command) -> str:
    """Tells it apart from others: its kind, its node and attempt, its engine, its instant."""
    kind = type(command)
    return " ".join((kind.__name__, *[str(getattr(command, name)) for name in _telling(kind)]))


@cache
def _telling(kind: type[Command]) -> tuple[str, ...]:
    """Of a kind of command, the fields that tell."""
    return tuple(name for name in ("node", "program", "attempt", "engine", "at", "until") if hasattr(kind, name))


def _draw(node: NodeRef) -> int:
    return crc32(f"{node.program}:{node.path}".encode())


def _engine(number: int) -> EngineSpec:
    gpu = GPUS[number % len(GPUS)]
    return EngineSpec(EngineId(f"{gpu}-{number}"), "modelled", ("model",), gpu=gpu, max_running=32)


def _text_to_sql() -> Plan:
    schema = (Const("You write SQL for the schema of "), Column("db"), Const("\n" + _SCHEMA + "\nQuestion: "))
    asks = (*schema, Column("question"))
    stages: tuple[Stage, ...] = (
        _generate("link", *asks, Const("\nWhich tables?")),
        _generate("draft", *asks, Const("\nTables: "), Output(StageId("link"))),
        Tool(StageId("run"), ToolSpec("run_sql"), Object((Field("sql", Output(StageId("draft"))),))),
        _generate("fix", *asks, Const("\nResult: "), Output(StageId("run"))),
        _generate("check", *asks, Const("\nIs this right? "), Output(StageId("fix"))),
    )
    return Plan("text_to_sql", (Input("db"), Input("question")), stages, Output(StageId("check")))


_SCHEMA = "\n".join(f"table_{number}(id, name, created_at, table_{number + 1}_id)" for number in range(12))


def _generate(stage: str, *segments: Expr) -> Generate:
    return Generate(StageId(stage), "model", (Message("user", Concat(segments)),), Sampling(0.8, max_tokens=256))


def _arrivals(programs: int, engines: int) -> Iterator[Arrival]:
    random, plan, at, begun = Random(7), _text_to_sql(), 0.0, 0
    jobs_per_s = CALLS_PER_ENGINE_S * engines / CALLS_PER_PROGRAM / PROGRAMS_PER_JOB
    while begun < programs:
        rows = min(PROGRAMS_PER_JOB, programs - begun)
        cells = [_row(random, begun + number) for number in range(rows)]
        yield Arrival(at, JobId(f"job-{begun}"), plan, Table.from_rows(cells, plan.inputs))
        at += random.expovariate(jobs_per_s)
        begun += rows


def _row(random: Random, number: int) -> dict[str, Json]:
    return {"db": f"database_{random.randrange(DATABASES)}", "question": f"How many rows of {number} are new, and why?"}


def _in_process(calls: int, engines: int, seed: int) -> Measured:
    line = [sys.executable, "-m", "benchmarks.scheduling.simulator", "--here"]
    asked = ["--calls", str(calls), "--engines", str(engines)]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run([*line, *asked], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    return Measured(**json.loads(done.stdout))


def _print(runs: Sequence[Measured]) -> None:
    for run in runs:
        print(
            f"{run.calls:>9,} calls on {run.engines} engines: {run.seconds:7.1f} s ({run.cpu_s:.1f} of CPU)  "
            f"{run.peak_gb:5.2f} GB  {run.events_per_s:8,.0f} events/s ({run.events:,} of the core, "
            f"{run.iterations:,} iterations; {run.calls / run.seconds:,.0f} calls/s)  "
            f"{run.virtual_s:,.0f} s of the fleet  {run.digest}"
        )
    print("one digest" if len({run.digest for run in runs}) == 1 else "DIGESTS DIFFER", flush=True)


def _reached(runs: Sequence[Measured]) -> bool:
    fast = all(run.events_per_s >= EVENTS_PER_S for run in runs)
    small = all(run.peak_gb <= MILLION_GB and run.seconds <= MILLION_S for run in runs)
    return fast and small and len({run.digest for run in runs}) == 1


if __name__ == "__main__":
    raise SystemExit(main())
