"""Classes and deadlines, on their way from who submits to what the core knows of a program."""

import asyncio

from example_plans import generate

from executor.core import admitting
from executor.core.limits import Limits
from executor.core.state import State
from executor.drivers.live_job import LiveJob, submitted
from executor.drivers.progress import Progress
from executor.engines.port import EngineSpec
from executor.events import BatchPlanned, JobSubmitted
from executor.slo import SloClass
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from planner.ir.codec import encode
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan
from planner.table import Table

PLAN = Plan("p", (Input("question"),), (generate("ask", Column("question")),), Const(1))
ROWS = [{"question": "why?"}]


def test_the_classes_stand_in_order_of_urgency() -> None:
    assert [slo.rank for slo in SloClass] == [0, 1, 2, 3]
    assert SloClass.STANDARD.degraded is SloClass.BATCH
    assert SloClass.BACKGROUND.degraded is SloClass.BACKGROUND


def test_a_program_knows_whose_it_is_when_it_came_and_by_when_it_should_be_done() -> None:
    state = State([EngineSpec(EngineId("only"), "scripted", ("small",))], Limits())
    job = JobId("job")
    admitting.submit(state, JobSubmitted(7.0, job, PLAN, 1, tenant="ann", slo=SloClass.INTERACTIVE, deadline_s=37.0))
    admitting.planned(state, BatchPlanned(8.0, job, PLAN, range(1), {}))
    admitting.admit(state)
    (program,) = state.programs.values()
    assert (program.tenant, program.slo) == ("ann", SloClass.INTERACTIVE)
    assert (program.arrived_s, program.deadline_s) == (7.0, 37.0)


async def test_a_stored_deadline_counts_from_acceptance_whoever_runs_the_job_and_when() -> None:
    accepted_at = 1_000_000.0
    store = MemoryStore(unix_time=lambda: accepted_at)
    new = NewJob(JobId("job"), "p", encode(PLAN), ROWS, "ann", slo=SloClass.BATCH, deadline_s=60.0)
    await store.create_job(new)
    claim = await store.claim("me", 10)
    assert claim is not None
    contents = await store.load(claim)
    ended = asyncio.get_running_loop().create_future()
    job = LiveJob(claim, None, PLAN, Table.from_rows(ROWS, PLAN.inputs), contents, ended, Progress(1))
    # The process began 100 s after acceptance, and takes the job up 5 s later.
    event = submitted(job, 5.0, accepted_at + 100, {})
    assert (event.tenant, event.slo, event.deadline_s) == ("ann", SloClass.BATCH, -40.0)
