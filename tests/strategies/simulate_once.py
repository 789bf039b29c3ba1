"""Simulates one job and prints the digest of everything that happened: run in processes with other hash seeds."""

import asyncio
import sys
from hashlib import blake2b

from every_kind import every_kind

from executor.drivers.simulated import Arrival, Simulation
from executor.drivers.world import ToolsRun
from executor.engines.port import EngineSpec
from executor.engines.synthetic import Synthetic
from executor.journal import encode_event
from executor.tools import ToolRunner
from planner.ir.ids import EngineId, JobId
from planner.table import Table


def digest_of_run() -> str:
    fleet = [
        EngineSpec(EngineId(gpu), "modelled", ("small", "large"), gpu=gpu, max_running=4) for gpu in ("A100", "L4")
    ]
    rows = [{"question": f"Why is {thing}?", "tone": tone} for thing in "abcdefgh" for tone in ("plain", "formal")]
    simulation = Simulation(fleet, ToolsRun(Synthetic(), ToolRunner(every_kind.tools), lambda spec: 0.05))
    asyncio.run(
        simulation.run([Arrival(0.0, JobId("job"), every_kind.plan, Table.from_rows(rows, every_kind.plan.inputs))])
    )
    lines = "\n".join(encode_event(event) for event in simulation.events)
    return f"{len(simulation.events)} {blake2b(lines.encode(), digest_size=16).hexdigest()}"


if __name__ == "__main__":
    sys.stdout.write(digest_of_run())
