"""The order of calls inside engines that keep priorities: what the core says of it, and what comes of it."""

from dataclasses import replace

import pytest
from example_plans import generate, output
from hypothesis import given
from hypothesis import strategies as st

from executor.commands import Dispatch
from executor.drivers.simulated import Arrival, Simulation
from executor.drivers.world import ToolsRun
from executor.engines.answers import Answer, FromFunction
from executor.engines.port import EngineSpec, GenerateRequest
from executor.policy.urgency import AGEING_S, PATIENCE_S, due_inside_s, priority_of
from executor.slo import SloClass
from executor.tools import ToolRunner
from planner.ir.expressions import Column
from planner.ir.ids import EngineId, JobId, program_id
from planner.ir.plan import Input, Plan, Sampling
from planner.table import Table
from tests.executor.even_profile import SECOND

ENGINE = EngineSpec(EngineId("only"), "modelled", ("small",), profile=replace(SECOND, kv_tokens=640), max_running=8)
KEEPS = replace(ENGINE, options={"priority_scheduling": True})
PLAN = Plan(
    "p", (Input("question"),), (generate("ask", Column("question"), sampling=Sampling(max_tokens=40)),), output("ask")
)
INSTANTS = st.floats(0, 1e6)


def test_classes_stand_before_deadlines_and_deadlines_before_the_order_of_coming() -> None:
    sent = [
        (SloClass.INTERACTIVE, 100.0 + PATIENCE_S),
        (SloClass.STANDARD, 100.0 + PATIENCE_S / 2),
        (SloClass.STANDARD, 100.0 + PATIENCE_S),
        (SloClass.BATCH, 100.0 + PATIENCE_S / 2),
        (SloClass.BACKGROUND, 100.0 + PATIENCE_S / 2),
    ]
    due = [due_inside_s(slo, latest_start_s, 100.0) for slo, latest_start_s in sent]
    assert due == sorted(due)
    assert due_inside_s(SloClass.BATCH, 500.0, 100.0) < due_inside_s(SloClass.BATCH, 500.0, 101.0)
    assert priority_of(1.2345) == 1234


@given(st.sampled_from(SloClass), INSTANTS, INSTANTS, st.sampled_from(SloClass), INSTANTS, INSTANTS)
def test_nobody_waits_inside_behind_what_is_sent_much_later(
    slo: SloClass, start_s: float, sent_s: float, other: SloClass, other_start_s: float, later_s: float
) -> None:
    bound_s = AGEING_S * (1 + max(0, slo.rank - other.rank))
    passes = due_inside_s(other, other_start_s, sent_s + later_s) < due_inside_s(slo, start_s, sent_s)
    assert not passes or later_s <= bound_s + 1e-6


def answer(request: GenerateRequest) -> Answer:
    """The first word of the question says how many tokens long."""
    return Answer("word", output_tokens=int(request.messages[0]["content"].split()[0]))


async def simulated(engine: EngineSpec) -> tuple[dict[str, float], list[Dispatch]]:
    """When each program ends: six calls of a batch, of which the KV holds four, and one that somebody waits for."""
    sent: list[Dispatch] = []
    world = ToolsRun(FromFunction(answer), ToolRunner({}), lambda spec: 0.0)
    simulation = Simulation(
        [engine],
        world,
        listener=lambda event, commands: sent.extend(one for one in commands if isinstance(one, Dispatch)),
        rule="least loaded",
    )
    batch = Table.from_rows([{"question": f"{20 + 4 * row} " + "x" * 230} for row in range(6)], PLAN.inputs)
    chat = Table.from_rows([{"question": "20 " + "y" * 230}], PLAN.inputs)
    jobs = await simulation.run(
        [
            Arrival(0.0, JobId("batch"), PLAN, batch, slo=SloClass.BATCH),
            Arrival(1.5, JobId("chat"), PLAN, chat, slo=SloClass.INTERACTIVE),
        ]
    )
    ended = {program_id(job, row): at for job, one in jobs.items() for row, at in one.ended_at.items()}
    return ended, sent


async def test_an_interactive_call_passes_those_of_a_batch_that_wait_inside() -> None:
    ended, sent = await simulated(KEEPS)
    assert all(one.due_s is not None for one in sent)
    assert len(sent) == 7  # nobody was sent twice: it is the engine that lets it pass
    assert ended["chat/0"] < min(ended["batch/4"], ended["batch/5"])


async def test_an_engine_that_keeps_no_priorities_is_told_none_and_takes_who_came_first() -> None:
    ended, sent = await simulated(ENGINE)
    assert all(one.due_s is None for one in sent)
    assert ended["chat/0"] > ended["batch/4"]


@pytest.mark.parametrize("slo", SloClass)
def test_a_call_is_due_inside_no_sooner_than_it_is_sent(slo: SloClass) -> None:
    assert due_inside_s(slo, 0.0, 100.0) >= 100.0
