"""What the core does to be quick, and must not lose by it."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from example_plans import generate

from executor.commands import Dispatch, Prepare, Settle
from executor.core.fleet import Fleet
from executor.core.scheduler import Scheduler
from executor.core.work import Frame, Program, Work
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled
from executor.policy.routing import Choice, EngineView
from planner.ir.expressions import Column, Const
from planner.ir.ids import ContentKey, EngineId, JobId
from planner.ir.plan import Input, Plan

ROWS = 40
ENGINE = EngineSpec(EngineId("only"), "scripted", ("small",), max_running=4)
PLAN = Plan("p", (Input("q"),), (generate("ask", Column("q")),), Const(1))


@dataclass(eq=False)
class Call:
    """Body of the fleet's `SentCall`."""

    model: str = "small"
    suspect: bool = False
    prefix: tuple[int, ...] = (1, 2)
    prompt_tokens: int = 70
    output_tokens: int = 10
    own_kv_tokens: float = 0.0
    engine: EngineId | None = None
    load_s: float = 0.0
    sent_at: float = 0.0
    beside: int = 0


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def answers(command: object, at: float) -> Iterator[Event]:
    """Every prompt begins with two blocks that others have too, and each has a key and an end of its own."""
    match command:
        case Prepare(node=node, attempt=attempt):
            yield Prepared(at, node, attempt, ContentKey(str(node)), 100, 10, (1, 2, hash(node.program)))
        case Dispatch(node=node, attempt=attempt):
            yield CallFinished(at, node, attempt, Usage(100, 10))
        case Settle(node=node, attempt=attempt):
            yield Settled(at, node, attempt)


@pytest.mark.usefixtures("no_collector")
def test_ended_programs_are_let_go_of_without_the_garbage_collector() -> None:
    """Their answers are kept for others, and the calls stood in an order that was looked at for each."""
    elsewhere = _alive()
    core, job = Scheduler([ENGINE]), JobId("j")
    events: list[Event] = [JobSubmitted(0.0, job, PLAN, ROWS), BatchPlanned(0.0, job, PLAN, range(ROWS), {})]
    while events:
        event = events.pop(0)
        for command in core.handle(event):
            events.extend(answers(command, event.at))
    assert _alive() - elsewhere <= 3 * ENGINE.max_running


def _alive() -> int:
    """Of all tests: one that failed keeps what it had."""
    return sum(isinstance(thing, Work | Frame | Program) for thing in gc.get_objects())


def test_a_call_that_enters_and_leaves_changes_an_engines_load_alone() -> None:
    fleet: Fleet[Call] = Fleet([ENGINE], 3)
    odd: dict[str, Any] = {"failures": 2, "trips": 1, "slowness": 1.5, "load_s": 3.0, "running": 1, "for_others": 2}
    odd["draining"] = True
    fleet.views[ENGINE.id] = before = replace(fleet.views[ENGINE.id], **odd)
    assert {field.name for field in fields(EngineView)} == {"spec", "up", "exclusive", *odd}, (
        "the fleet must keep it too"
    )
    call = Call()
    fleet.enter(call, Choice(ENGINE.id, 0.5, "why"), 0.0)
    assert fleet.views[ENGINE.id] == replace(before, running=2, load_s=3.5)
    fleet.leave(call)
    assert fleet.views[ENGINE.id] == replace(before, load_s=3.0, slowness=1.0)
