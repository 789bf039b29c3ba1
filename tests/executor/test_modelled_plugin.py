"""What if our engines ran the plugin: modelled ones do, where a fleet file says so, in both kinds of virtual time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from example_plans import LOOKUP, output, user

from executor.clock import WallClock
from executor.commands import Command, Hint, Status
from executor.drivers.replaying import replay
from executor.drivers.simulated import Arrival, Simulation
from executor.engines.answers import Answer
from executor.engines.fleet_file import read_fleet
from executor.engines.model.profiles import PROFILES
from executor.engines.modelled import Modelled
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.rungs import Rung
from executor.engines.synthetic import Synthetic
from executor.errors import FleetInvalid
from executor.events import CallFinished, Event, RungFound
from executor.recording import record
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, JobId, NodeRef, StageId
from planner.ir.plan import Agent, Input, Plan, ToolSpec
from planner.ir.values import Json
from planner.table import Table

PROFILE = replace(PROFILES["cpu"], kv_tokens=6_400, chunked=True)
STOCK = EngineSpec(EngineId("only"), "modelled", ("small",), profile=PROFILE, kv_tokens=6_400)
PLUGIN = replace(STOCK, options={"retention": "plugin"})
PLAN = Plan("p", (Input("q"),), (Agent(StageId("solve"), "small", user(Column("q")), (LOOKUP,), 9),), output("solve"))
TURNS, ROWS = 4, 16


class Lookups:
    """A world where each agent looks something up, which takes two seconds, before each of its turns but the first."""

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        asked = sum(message["role"] == "tool" for message in request.messages)
        calls = () if asked == TURNS - 1 else (ToolCall(f"c{asked}", "lookup", "{}"),)
        return Answer("thinks " * 30, calls, output_tokens=60)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        return f"{node.program} found " * 20, 2.0


async def played(engine: EngineSpec) -> tuple[list[Event], list[Command]]:
    """All agents come within three seconds; the KV has room for some of them."""
    events: list[Event] = []
    commands: list[Command] = []

    def heard(event: Event, told: Sequence[Command]) -> None:
        events.append(event)
        commands.extend(told)

    arrivals = [
        Arrival(row / 5, JobId(f"j{row}"), PLAN, Table.from_rows([{"q": f"{row} why? " * 200}], PLAN.inputs))
        for row in range(ROWS)
    ]
    jobs = await Simulation([engine], Lookups(), listener=heard).run(arrivals)
    assert all(job.status is Status.SUCCEEDED for job in jobs.values())
    return events, commands


def cached(events: Sequence[Event]) -> int:
    return sum(event.usage.cached_tokens for event in events if isinstance(event, CallFinished))


async def test_an_engine_with_the_plugin_keeps_programs_over_their_tools_and_is_told_of_them() -> None:
    stock, _ = await played(STOCK)
    kept, told = await played(PLUGIN)
    assert RungFound(0.0, STOCK.id, Rung.PLUGIN) in kept
    assert not any(isinstance(event, RungFound) for event in stock)
    assert any(isinstance(one, Hint) for one in told)
    assert len([event for event in kept if isinstance(event, CallFinished)]) == TURNS * ROWS
    assert cached(kept) > cached(stock)


async def test_the_same_run_twice_is_the_same() -> None:
    assert await played(PLUGIN) == await played(PLUGIN)


async def test_recorded_traffic_is_played_again_as_if_the_plugin_ran() -> None:
    events, _ = await played(STOCK)
    window = record(events)
    as_it_was, kept = replay(window, [STOCK]), replay(window, [PLUGIN])
    assert {one.job for one in kept} == {one.job for one in as_it_was} == {JobId(f"j{row}") for row in range(ROWS)}
    assert kept != as_it_was


async def test_it_says_itself_how_it_keeps_kv() -> None:
    engine = Modelled(PLUGIN, Synthetic(), WallClock())
    assert (await engine.probe()).rung is Rung.PLUGIN
    await engine.close()


def test_a_fleet_file_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    engine = '[[engine]]\nid = "a"\nkind = "modelled"\nmodel = "m"\n[engine.options]\nretention = '
    path.write_text(engine + '"plugin"\n')
    assert read_fleet(path)[0].models_plugin
    for wrong, what in (('"pin"\n', "retention"), ('"plugin"\npriority_scheduling = true\n', "leave one out")):
        path.write_text(engine + wrong)
        with pytest.raises(FleetInvalid, match=what):
            read_fleet(path)
