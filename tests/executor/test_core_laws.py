"""Laws of the core, over random plans, random rows and random orders of events."""

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_strategies import FakeWorld, plans, rows_for
from tabletop import FLEET, Tabletop

from executor.commands import Dispatch, RunTool, SaveNode
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import Failure, FailureClass
from executor.events import Recovered
from planner.interpret import StageFailed, interpret
from planner.ir.ids import NodeRef, row_of
from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.passes.drop_unused_stages import drop_unused_stages
from planner.table import Table

LAWS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(st.data(), st.integers(0, 2**16))
@LAWS
def test_every_row_gets_the_answer_the_reference_gives(data: st.DataObject, seed: int) -> None:
    plan, rows = _job(data)
    table = Tabletop(FakeWorld(), seed).run(plan, rows)
    assert _outcomes(table.results) == _reference(plan, rows)
    assert not table.core._state.jobs
    assert not len(table.core._state.shared), "nothing is kept for a job that is over"


@given(st.data(), st.integers(0, 2**16))
@LAWS
def test_engines_that_fail_change_no_answer(data: st.DataObject, seed: int) -> None:
    plan, rows = _job(data)

    def faults(command: Dispatch | RunTool) -> Failure | None:
        """The first two tries of every third call fail through the engine's fault."""
        name = str(command.node)
        if isinstance(command, RunTool) or command.attempt > 2 or len(name) % 3:
            return None
        kind = FailureClass.ENGINE_DIED if len(name) % 2 else FailureClass.ENGINE
        return Failure(kind, "died", "the engine died")

    table = Tabletop(FakeWorld(), seed, faults=faults).run(plan, rows)
    assert _outcomes(table.results) == _reference(plan, rows)


@given(st.data(), st.integers(0, 2**16), st.integers(1, 400), st.booleans(), st.integers(1, 5))
@LAWS
def test_little_room_and_any_order_change_no_answer(
    data: st.DataObject, seed: int, kv_tokens: int, warm_first: bool, most_passes: int
) -> None:
    """Nor do they leave a call waiting for ever."""
    plan, rows = _job(data)
    fleet = [replace(spec, kv_tokens=kv_tokens, warm_first=warm_first) for spec in FLEET]
    limits = Limits(active_programs=3, most_passes=most_passes)
    table = Tabletop(FakeWorld(), seed, fleet=fleet, limits=limits).run(plan, rows)
    assert _outcomes(table.results) == _reference(plan, rows)


@given(st.data(), st.integers(0, 2**16))
@LAWS
def test_no_node_is_saved_twice_and_none_runs_after_it_was_saved(data: st.DataObject, seed: int) -> None:
    plan, rows = _job(data)
    table = Tabletop(FakeWorld(), seed).run(plan, rows)
    saved: Counter[NodeRef] = Counter()
    for command in table.commands:
        if isinstance(command, SaveNode):
            saved[command.node] += 1
        if isinstance(command, Dispatch | RunTool):
            assert not saved[command.node], f"{command.node} runs again"
    assert set(saved.values()) <= {1}


@given(st.data(), st.integers(0, 2**16))
@LAWS
def test_the_same_events_give_the_same_commands(data: st.DataObject, seed: int) -> None:
    plan, rows = _job(data)
    table = Tabletop(FakeWorld(), seed).run(plan, rows)
    again = Scheduler(table.fleet, table.limits)
    assert [command for event in table.events for command in again.handle(event)] == table.commands


@given(st.data(), st.integers(0, 2**16), st.integers(1, 60))
@LAWS
def test_a_killed_job_goes_on_where_it_was(data: st.DataObject, seed: int, stop_after: int) -> None:
    plan, rows = _job(data)
    killed = Tabletop(FakeWorld(), seed, stop_after=stop_after).run(plan, rows)
    world = FakeWorld()
    resumed = Tabletop(world, seed + 1)
    recovered = _recovered(killed)
    resumed.run(plan, rows, recovered, killed.saved, sorted(killed.results))
    assert _outcomes(killed.results | resumed.results) == _reference(plan, rows)
    assert len(resumed.results) + len(killed.results) == len(rows)
    ran = {command.node for command in resumed.commands if isinstance(command, Dispatch | RunTool)}
    assert not ran & set(killed.saved), "a finished stage was called again"


def _job(data: st.DataObject) -> tuple[Plan, list[dict[str, Json]]]:
    plan = data.draw(plans())
    return plan, data.draw(rows_for(plan))


def _recovered(killed: Tabletop) -> dict[int, Recovered]:
    done: dict[int, dict[str, tuple[str, ...]]] = {}
    for node, output in killed.saved.items():
        row = row_of(node.program)
        if row not in killed.results:
            is_turn = isinstance(output, dict) and output.keys() == {"text", "tool_calls"}
            tools = tuple(call["name"] for call in output["tool_calls"]) if is_turn else ()
            done.setdefault(row, {})[node.path] = tools
    return {row: Recovered(paths) for row, paths in done.items()}


def _reference(plan: Plan, rows: list[dict[str, Json]]) -> dict[int, object]:
    """What the reference says of the plan less the stages nobody reads: those are not run, so they cannot fail."""
    table = Table.from_rows(rows, plan.inputs)
    (part,) = optimize([JobPart(plan, table)], passes=(drop_unused_stages,)).parts
    return {row: _one(part.plan, table.row(row)) for row in range(table.rows)}


def _one(plan: Plan, row: dict[str, Json]) -> object:
    try:
        return ("ok", interpret(plan, row, FakeWorld()))
    except StageFailed:
        return "failed"


def _outcomes(results: dict[int, Json | Failure]) -> dict[int, object]:
    return {row: "failed" if isinstance(result, Failure) else ("ok", result) for row, result in sorted(results.items())}
