"""Calls that leave an engine for others, told as stories: batches give way to what somebody waits for, and what has not
begun leaves an engine that turns out to be slow."""

from collections.abc import Sequence
from dataclasses import replace

from example_plans import generate

from executor.commands import Abort, Command, Dispatch, FinishJob, Prepare, Settle
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled
from executor.policy.giving_way import MOST_SENT_BACK, Inside, slower, who_gives_way
from executor.slo import SloClass
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan, Sampling

ONE, TWO = EngineId("one"), EngineId("two")
ENGINE = EngineSpec(ONE, "scripted", ("small",), gpu="A100-80", max_running=2, kv_tokens=4_000)
FLEET = (ENGINE, replace(ENGINE, id=TWO))
PLAN = Plan("p", (Input("q"),), (replace(generate("ask", Column("q")), sampling=Sampling(max_tokens=100)),), Const(1))
PROMPT_TOKENS = 1_000


class House:
    """A core. Every program is one call of 1,100 tokens; three of them fit into the KV of an engine."""

    def __init__(self, *fleet: EngineSpec, rule: str = "halo") -> None:
        self.core, self.now = Scheduler(fleet or FLEET, rule=rule), 0.0
        self.sent: list[Dispatch] = []
        self.aborted: list[Abort] = []
        self.ended: list[str] = []

    def submit(self, job: str, slo: SloClass, rows: int = 1) -> "House":
        self.tell(JobSubmitted(self.now, JobId(job), PLAN, rows, slo=slo))
        return self.tell(BatchPlanned(self.now, JobId(job), PLAN, range(rows), {}))

    def end(self, call: Dispatch, after_s: float = 1.0) -> "House":
        self.now += after_s
        return self.tell(CallFinished(self.now, call.node, call.attempt, Usage(PROMPT_TOKENS, 100)))

    def end_all(self) -> "House":
        number = 0
        while number < len(self.sent):
            self.end(self.sent[number])
            number += 1
        return self

    def tell(self, event: Event) -> "House":
        events = [event]
        while events:
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            events += [answer for command in commands for answer in self._answers(command)]
        return self

    def _answers(self, command: Command) -> Sequence[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                return [Prepared(self.now, node, attempt, None, PROMPT_TOKENS, 100)]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
            case Dispatch():
                self.sent.append(command)
            case Abort():
                self.aborted.append(command)
            case FinishJob(job=job):
                self.ended.append(job)
        return []


def test_the_youngest_call_of_a_batch_gives_way_to_one_that_somebody_waits_for() -> None:
    house = House().submit("batch", SloClass.BATCH, rows=5)
    youngest = house.sent[-1]
    house.submit("chat", SloClass.INTERACTIVE)
    assert [one.node for one in house.aborted] == [youngest.node]
    assert house.sent[-1].node.program == "chat/0"
    assert house.sent[-1].engine == youngest.engine


def test_the_call_that_gave_way_is_done_later_and_nothing_is_held_against_it() -> None:
    house = House().submit("batch", SloClass.BATCH, rows=5).submit("chat", SloClass.INTERACTIVE).end_all()
    assert sorted(house.ended) == ["batch", "chat"]
    again = [call.attempt for call in house.sent if call.node == house.aborted[0].node]
    assert again == [1, 2]


def test_nobody_gives_way_while_an_engine_has_room_or_to_work_that_can_wait() -> None:
    assert not House().submit("batch", SloClass.BATCH, rows=3).submit("chat", SloClass.INTERACTIVE).aborted
    assert not House().submit("batch", SloClass.BATCH, rows=5).submit("job", SloClass.STANDARD).aborted
    assert not House().submit("job", SloClass.STANDARD, rows=5).submit("chat", SloClass.INTERACTIVE).aborted


def test_background_work_gives_way_before_batches() -> None:
    house = House().submit("night", SloClass.BACKGROUND, rows=2).submit("batch", SloClass.BATCH, rows=2)
    house.submit("chat", SloClass.INTERACTIVE)
    assert [one.node.program for one in house.aborted] == ["night/1"]


def test_nobody_gives_way_again_and_again() -> None:
    inside = [Inside(ONE, SloClass.BATCH, 5.0, sent_back=MOST_SENT_BACK), Inside(ONE, SloClass.BATCH, 1.0)]
    assert who_gives_way(SloClass.INTERACTIVE, inside, {ONE}) == 1
    assert who_gives_way(SloClass.INTERACTIVE, inside[:1], {ONE}) is None
    assert who_gives_way(SloClass.INTERACTIVE, inside, {TWO}) is None


def test_an_engine_is_slow_by_comparison_with_the_others() -> None:
    assert slower({ONE: 3.0, TWO: 3.2}) == {ONE: 1.0, TWO: 1.0}
    assert slower({ONE: 1.0, TWO: 4.0, EngineId("three"): 1.0}) == {ONE: 1.0, TWO: 4.0, "three": 1.0}


def test_what_has_not_begun_leaves_an_engine_that_turns_out_to_be_slow() -> None:
    """Six calls fit into the window of each engine, and three into its KV: the others wait inside."""
    fleet = [replace(ENGINE, id=EngineId(f"e{number}"), max_running=64) for number in range(3)]
    house = House(*fleet).submit("batch", SloClass.BATCH, rows=18)
    by_engine = {spec.id: [call for call in house.sent if call.engine == spec.id] for spec in fleet}
    assert {len(calls) for calls in by_engine.values()} == {6}
    for first, second in zip(by_engine[EngineId("e0")], by_engine[EngineId("e1")], strict=True):
        house.end(first, 0.01).end(second, 0.01)
    house.end(by_engine[EngineId("e2")][0], 60.0)
    assert {one.node for one in house.aborted} == {call.node for call in by_engine[EngineId("e2")][4:]}
    assert {call.engine for call in house.sent[18:]} <= {"e0", "e1"}
    assert house.end_all().ended == ["batch"]


def test_a_prompt_goes_where_the_context_is_long_enough_and_if_it_is_nowhere_an_engine_says_so() -> None:
    short, long = replace(ENGINE, context_tokens=1_000), replace(ENGINE, id=TWO, gpu="L4", context_tokens=2_000)
    house = House(short, long).submit("chat", SloClass.INTERACTIVE)
    assert [call.engine for call in house.sent] == [TWO]
    assert len(House(short, replace(short, id=TWO)).submit("chat", SloClass.INTERACTIVE).sent) == 1


def test_published_rules_never_send_a_call_back() -> None:
    house = House(rule="round robin").submit("batch", SloClass.BATCH, rows=6).submit("chat", SloClass.INTERACTIVE)
    assert not house.end_all().aborted


def test_a_call_that_was_sent_back_is_one_call_that_its_stage_asked_for() -> None:
    house = House().submit("batch", SloClass.BATCH, rows=5)
    house.submit("chat", SloClass.INTERACTIVE)
    assert house.aborted
    house.end_all()
    ((calls, _),) = house.core._state.stages.mix("small")
    assert calls == 6
