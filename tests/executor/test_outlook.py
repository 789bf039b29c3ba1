"""What the core says, at the door, of the work that it took: what waits, what engines work on, how quickly."""

from dataclasses import replace

import pytest
from example_plans import generate

from executor.commands import Dispatch, Prepare, Settle
from executor.core.program_costs import UNKNOWN_S
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled
from executor.policy.fairness import Account
from executor.slo import SloClass
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan, Sampling

ENGINE = EngineSpec(EngineId("one"), "scripted", ("small",), gpu="A100-80", max_running=2)
PLAN = Plan("p", (Input("q"),), (replace(generate("ask", Column("q")), sampling=Sampling(max_tokens=100)),), Const(1))
JOB, ANN = JobId("job"), Account("ann", SloClass.STANDARD)


def test_of_the_programs_taken_those_have_begun_that_engines_work_on() -> None:
    core = Scheduler([ENGINE])
    assert len(begin(core, rows=5)) == 2
    assert core.outlook.queued == {"ann": 5}
    assert core.outlook.backlog_s[ANN] == 5 * UNKNOWN_S
    assert core.outlook.begun_s[ANN] == 2 * UNKNOWN_S
    assert core.outlook.before_s(ANN) == 3 * UNKNOWN_S


def test_a_program_is_taken_to_last_as_long_as_its_calls_do_in_engines_however_long_they_waited_for_one() -> None:
    core = Scheduler([ENGINE])
    waiting, now = begin(core, rows=40), 0.0
    while waiting:
        now += 2.0
        inside, waiting = waiting, []
        for call in inside:
            waiting += tell(core, CallFinished(now, call.node, call.attempt, Usage(100, 100)))
    assert now == 40.0
    assert core.cost_of("p").took_s == pytest.approx(2.0, rel=0.05)


def test_an_engine_with_few_places_is_not_believed_to_be_as_quick_as_one_with_many() -> None:
    rates = [Scheduler([replace(ENGINE, max_running=places)]).outlook.rate for places in (2, 16, 32, 256)]
    assert rates[0] < rates[1] < rates[2] == rates[3] == 1.0
    assert not Scheduler([ENGINE]).outlook.seen


def begin(core: Scheduler, rows: int) -> list[Dispatch]:
    """The calls that engines are sent first."""
    tell(core, JobSubmitted(0.0, JOB, PLAN, rows, tenant="ann"))
    return tell(core, BatchPlanned(0.0, JOB, PLAN, range(rows), {}))


def tell(core: Scheduler, event: Event) -> list[Dispatch]:
    events, sent, now = [event], list[Dispatch](), event.at
    while events:
        for command in core.handle(events.pop(0)):
            match command:
                case Prepare(node=node, attempt=attempt):
                    events.append(Prepared(now, node, attempt, None, 100, 100))
                case Settle(node=node, attempt=attempt):
                    events.append(Settled(now, node, attempt))
                case Dispatch():
                    sent.append(command)
    return sent
