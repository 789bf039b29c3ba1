"""Engines that an operator takes out: what they have ends there, and everything else goes elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from example_plans import generate
from live_runs import live_driver, scripted_fleet, submit

from executor.commands import Abort, CallMeAt, Command, Dispatch, FinishJob, FinishProgram, Prepare, Settle, Status
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.door.commands import Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived
from executor.engines.port import EngineSpec, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    EngineBack,
    EngineDraining,
    EngineLost,
    EngineResumed,
    Event,
    JobSubmitted,
    Prepared,
    Settled,
    WakeUp,
)
from executor.journal import decode_events, encode_event
from executor.slo import SloClass
from executor.store.memory import MemoryStore
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId, ProgramId
from planner.ir.plan import Input, Plan

ONE, TWO = EngineId("one"), EngineId("two")
ENGINE = EngineSpec(ONE, "scripted", ("small",), gpu="A100-80", max_running=2, kv_tokens=40_000)
FLEET = (ENGINE, replace(ENGINE, id=TWO))
PLAN = Plan("p", (Input("q"),), (generate("ask", Column("q")),), Const(1))
NO_ENGINE_S = 30.0


class House:
    """A core whose programs are one call each."""

    def __init__(self, *fleet: EngineSpec, rule: str = "halo") -> None:
        self.core, self.now = Scheduler(fleet or FLEET, Limits(no_engine_s=NO_ENGINE_S), rule), 0.0
        self.events: list[Event] = []
        self.commands: list[Command] = []

    def submit(self, job: str, rows: int, slo: SloClass = SloClass.STANDARD) -> "House":
        self.tell(JobSubmitted(self.now, JobId(job), PLAN, rows, slo=slo))
        return self.tell(BatchPlanned(self.now, JobId(job), PLAN, range(rows), {}))

    def drain(self, engine: EngineId) -> "House":
        return self.tell(EngineDraining(self.now, engine))

    def end(self, call: Dispatch) -> "House":
        self.now += 1
        return self.tell(CallFinished(self.now, call.node, call.attempt, Usage(100, 10)))

    def tell(self, event: Event) -> "House":
        events = [event]
        while events:
            self.events.append(events[0])
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            self.commands += commands
            events += [answer for command in commands for answer in self._answers(command)]
        return self

    def all(self, kind: type[Command]) -> list[Command]:
        return [one for one in self.commands if isinstance(one, kind)]

    @property
    def sent(self) -> list[Dispatch]:
        return [one for one in self.commands if isinstance(one, Dispatch)]

    def _answers(self, command: Command) -> Sequence[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                return [Prepared(self.now, node, attempt, None, 100, 10)]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
        return []


def test_what_runs_there_ends_there_and_nothing_new_goes_there() -> None:
    house = House().submit("job", 6)
    first = house.sent
    assert {one.engine for one in first} == {ONE, TWO}
    house.drain(ONE)
    for call in house.sent:
        house.end(call)
    number = len(first)
    while number < len(house.sent):
        assert house.sent[number].engine == TWO
        house.end(house.sent[number])
        number += 1
    assert not house.all(Abort)
    assert house.core.draining == {ONE}
    assert [one.status for one in house.commands if isinstance(one, FinishJob)] == [Status.SUCCEEDED]


@pytest.mark.parametrize("rule", ["halo", "round robin", "session affinity"])
def test_by_no_rule_does_anything_new_go_there(rule: str) -> None:
    """Not what a rule bound to it while it took calls, nor what somebody waits for."""
    house = House(rule=rule).submit("job", 7)
    before = len(house.sent)
    house.drain(ONE).submit("chat", 3, SloClass.INTERACTIVE)
    number = 0
    while number < len(house.sent):
        house.end(house.sent[number])
        number += 1
    assert {one.engine for one in house.sent[before:]} == {TWO}
    assert len(house.all(FinishJob)) == 2


def test_resumed_it_takes_calls_again() -> None:
    house = House().drain(ONE).submit("job", 4)
    assert {one.engine for one in house.sent} == {TWO}
    house.tell(EngineResumed(house.now, ONE))
    assert [one.engine for one in house.sent] == [TWO, TWO, ONE, ONE]
    assert not house.core.draining


def test_one_that_died_while_it_drained_drains_still_when_it_is_back() -> None:
    house = House().drain(ONE).tell(EngineLost(0.0, ONE)).tell(EngineBack(1.0, ONE))
    house.now = 2.0
    house.submit("job", 4)
    assert {one.engine for one in house.sent} == {TWO}


def test_where_nobody_else_serves_the_model_calls_wait_and_are_given_up_after_a_while() -> None:
    house = House(ENGINE).drain(ONE).submit("job", 1)
    assert not house.sent
    house.now = NO_ENGINE_S
    assert any(one.at == NO_ENGINE_S for one in house.commands if isinstance(one, CallMeAt))
    house.tell(WakeUp(house.now))
    (failed,) = [one for one in house.commands if isinstance(one, FinishProgram)]
    assert failed.failure is not None
    assert failed.failure.code == "no_engine"
    assert "took calls" in failed.failure.message


def test_resumed_in_time_nobody_is_given_up() -> None:
    house = House(ENGINE).drain(ONE).submit("job", 1)
    house.now = NO_ENGINE_S - 1
    house.tell(EngineResumed(house.now, ONE))
    house.now = NO_ENGINE_S
    house.tell(WakeUp(house.now))
    assert [one.engine for one in house.sent] == [ONE]
    assert not house.all(FinishProgram)


def test_draining_twice_changes_nothing_more() -> None:
    house = House().submit("job", 6).drain(ONE)
    told = len(house.commands)
    assert len(house.drain(ONE).commands) == told


def test_the_events_of_a_journal_give_the_same_commands_again() -> None:
    house = House().submit("job", 6).drain(ONE)
    for call in list(house.sent):
        house.end(call)
    house.tell(EngineResumed(house.now, ONE))
    again = Scheduler(FLEET, Limits(no_engine_s=NO_ENGINE_S))
    events = decode_events([encode_event(event) for event in house.events])
    assert [command for event in events for command in again.handle(event)] == house.commands


def spec(name: EngineId) -> EngineSpec:
    return EngineSpec(
        name, "vllm", ("Llama-3-8B",), url="http://e", gpu="A100", max_running=4, kv_tier="host", kv_tier_gib=1.0
    )


def test_at_the_door_a_program_leaves_for_an_engine_that_loads_its_kv() -> None:
    door, program, prefix = DoorCore((spec(ONE), spec(TWO))), ProgramId("team/ada"), tuple(range(20))

    def turn(number: int, at: float) -> Send:
        arrived = CallArrived(
            at,
            number,
            tenant="team",
            model="Llama-3-8B",
            fresh=program,
            named=program,
            prefix=prefix,
            prompt_tokens=2_000,
        )
        (sent,) = [one for one in door.handle(arrived) if isinstance(one, Send)]
        door.handle(CallAnswered(at + 0.1, number, Usage(2_000, 10)))
        return sent

    home = turn(1, 1000.0).engine
    assert turn(2, 1002.0).engine == home
    door.handle(EngineDraining(1004.0, home))
    moved = turn(3, 1005.0)
    assert moved.engine != home
    assert "from the tier" in moved.reason


async def test_a_driver_sends_a_drained_engine_nothing() -> None:
    engines, store = scripted_fleet(), MemoryStore()
    spare, drained = engines[0].spec.id, engines[1].spec.id
    job = await submit(store, PLAN, [{"q": f"{number}?"} for number in range(40)])
    async with live_driver(engines, store) as driver:
        driver.drain(drained)
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
        driver.resume(drained)
        assert dict(driver.running()) == {spare: 0, drained: 0}
    assert [row.result async for row in store.results(job)] == [1] * 40
