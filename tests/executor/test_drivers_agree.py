"""One workflow, the same answers: inline, live on scripted engines, and simulated on modelled ones."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from every_kind import every_kind
from live_runs import MODELS, run_live, scripted_fleet
from synthetic_world import SyntheticWorld

from executor.commands import Status
from executor.core.scheduler import Scheduler
from executor.drivers.simulated import Arrival, Simulation
from executor.drivers.world import ToolsRun
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.synthetic import Synthetic
from executor.journal import decode_events, encode_event, read_journal
from executor.tools import ToolRunner
from planner.interpret import interpret
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import ToolSpec
from planner.ir.values import Json, canonical_json
from planner.table import Table

ROWS = [
    {"question": "Why is the sky blue?", "tone": "plain"},
    {"question": "Why is the sea green?", "tone": "formal"},
    {"question": "Why is the sky blue?", "tone": "plain"},
    {"question": "What is a prefix?"},
]


async def test_inline_live_and_simulated_give_the_same_answers() -> None:
    inline = [interpret(every_kind.plan, row, SyntheticWorld(run_tool)) for row in _rows()]
    status, live, _ = await run_live(every_kind.plan, ROWS, every_kind.tools)
    assert status is Status.SUCCEEDED
    assert [row.result for row in live] == inline
    assert await _simulated() == dict(enumerate(inline))


async def test_a_recorded_live_run_gives_the_same_commands_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    _, _, engines = await run_live(every_kind.plan, ROWS, every_kind.tools, journal=journal)
    events = list(read_journal(journal))
    first, second = (Scheduler([engine.spec for engine in engines]) for _ in range(2))
    commands = [first.handle(event) for event in events]
    assert sum(map(len, commands)) > 100
    copies = decode_events([encode_event(event) for event in events])
    assert [second.handle(event) for event in copies] == commands


async def test_a_simulated_run_repeats_itself_event_for_event() -> None:
    first, second = _simulation(), _simulation()
    await first.run(_arrivals())
    await second.run(_arrivals())
    assert first.events == second.events


async def test_equal_rows_are_run_once() -> None:
    question = {"question": "Why is the sky blue?"}
    one, many = Counting(), Counting()
    await run_live(every_kind.plan, [question], every_kind.tools, engines=scripted_fleet(one))
    await run_live(every_kind.plan, [question] * 50, every_kind.tools, engines=scripted_fleet(many))
    assert many.asked == one.asked


class Counting:
    """The synthetic answers, and how often each prompt was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def answer(self, request: GenerateRequest) -> Answer:
        self.asked[canonical_json(request.messages)] += 1
        return Synthetic().answer(request)


def run_tool(spec: ToolSpec, arguments: dict[str, Json]) -> Json:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ToolRunner(every_kind.tools).run(spec, arguments)).result()


def _table() -> Table:
    return Table.from_rows(ROWS, every_kind.plan.inputs)


def _rows() -> list[dict[str, Json]]:
    return [_table().row(row) for row in range(len(ROWS))]


def _arrivals() -> list[Arrival]:
    return [Arrival(0.0, JobId("job"), every_kind.plan, _table())]


def _simulation() -> Simulation:
    fleet = [EngineSpec(EngineId(gpu), "modelled", MODELS, gpu=gpu) for gpu in ("A100", "L40S")]
    return Simulation(fleet, ToolsRun(Synthetic(), ToolRunner(every_kind.tools), lambda spec: 0.05))


async def _simulated() -> dict[int, Json]:
    jobs = await _simulation().run(_arrivals())
    return dict(jobs[JobId("job")].results)
