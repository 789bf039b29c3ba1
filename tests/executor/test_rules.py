"""How ready calls get engines, by each rule of the table: given these engines and these calls, these dispatches."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from example_plans import generate, output

from executor.commands import Command, Dispatch, FinishProgram, Prepare, Settle, Status
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    EngineBack,
    EngineLost,
    Event,
    JobSubmitted,
    NodeFailed,
    Prepared,
    Settled,
    WakeUp,
)
from executor.policy.dearness import Margin
from executor.policy.rules import RULES, Rule, hexgen
from executor.policy.urgency import AGEING_S
from executor.slo import SloClass
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan, Sampling, Stage

QUICK, SLOW = EngineId("quick"), EngineId("slow")
FLEET = (
    EngineSpec(QUICK, "scripted", ("small",), gpu="A100-80", max_running=2, kv_tokens=100_000),
    EngineSpec(SLOW, "scripted", ("small",), gpu="A6000", max_running=2, kv_tokens=100_000),
)
BUSY = Failure(FailureClass.ENGINE, "http_500", "internal error")


def ask(stage: str = "ask", **reads: str) -> Stage:
    question = output(reads["after"]) if reads else Column("q")
    return replace(generate(stage, question), sampling=Sampling(max_tokens=100))


class Line:
    """A core with a rule. Every job is one program; prompts have 1,000 tokens, and answers 100 where no more is said of
    their stage."""

    def __init__(self, rule: str | Rule, *fleet: EngineSpec, **answers: int) -> None:
        self.core, self._answer_tokens = Scheduler(fleet or FLEET, rule=rule), answers
        self.sent: list[Dispatch] = []
        self.ended: list[str] = []
        self.now = 0.0

    def submit(self, *jobs: str, stages: Sequence[Stage] = (), **deadlines_s: float) -> "Line":
        plan = Plan("p", (Input("q"),), tuple(stages or (ask(),)), Const(1))
        for job in jobs:
            self.tell(JobSubmitted(self.now, JobId(job), plan, 1, deadline_s=deadlines_s.get(job, self.now + 100.0)))
            self.tell(BatchPlanned(self.now, JobId(job), plan, range(1), {}))
        return self

    def end(self, *numbers: int) -> "Line":
        """The calls that were sent as these have their answers."""
        for number in numbers:
            call = self.sent[number]
            self.now += 1.0
            self.tell(CallFinished(self.now, call.node, call.attempt, Usage(1000, 100)))
        return self

    def end_all(self) -> "Line":
        """One after the other, as they were sent, those too that are sent meanwhile."""
        number = 0
        while number < len(self.sent):
            self.end(number)
            number += 1
        return self

    def wake(self) -> "Line":
        self.now += 10.0
        return self.tell(WakeUp(self.now))

    def tell(self, event: Event) -> "Line":
        events = [event]
        while events:
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            events += [answer for command in commands for answer in self._answers(command)]
        return self

    def _answers(self, command: Command) -> Sequence[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                return [Prepared(self.now, node, attempt, None, 1000, self._answer_tokens.get(node.path, 100))]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
            case Dispatch():
                self.sent.append(command)
            case FinishProgram(program=program, status=Status.SUCCEEDED):
                self.ended.append(program.partition("/")[0])
        return []

    @property
    def engines(self) -> list[EngineId]:
        return [call.engine for call in self.sent]

    @property
    def jobs(self) -> list[str]:
        return [call.node.program.partition("/")[0] for call in self.sent]


@pytest.mark.parametrize("rule", RULES)
def test_under_every_rule_all_is_done_though_an_engine_is_lost_and_comes_back(rule: str) -> None:
    line = Line(rule).submit("a", "b", "c", "d", "e", "f", stages=[ask(), ask("again", after="ask")])
    line.tell(EngineLost(line.now, QUICK)).end(2).tell(EngineBack(line.now, QUICK))
    line.end_all().wake().end_all()
    assert sorted(line.ended) == ["a", "b", "c", "d", "e", "f"]


def test_round_robin_gives_each_engine_its_turn_whatever_it_can_do() -> None:
    line = Line("round robin").submit("a", "b", "c", "d", "e", "f")
    assert line.engines == [QUICK, SLOW, QUICK, SLOW]
    line.end(0, 2)  # the fifth waits for the quick one, the sixth for the slow one
    assert (line.engines[4:], line.jobs[4:]) == ([QUICK], ["e"])
    assert line.end(1).jobs[5:] == ["f"]


def test_a_call_that_its_program_does_not_wait_for_leaves_the_quick_engine_to_others() -> None:
    long = replace(generate("long", Column("q")), sampling=Sampling(max_tokens=1000))
    uncrowded = replace(RULES["halo"], margin=Margin(crowded=9.0))
    beside = Line(uncrowded, long=1000).submit("a", stages=[long, ask("short")])
    assert beside.engines == [QUICK, SLOW]  # the program waits for the long one in any case
    alone = Line(uncrowded, long=1000).submit("a", stages=[long]).submit("b", stages=[ask("short")])
    assert alone.engines == [QUICK, QUICK]


def test_least_loaded_counts_calls_that_wait_for_an_engine_too() -> None:
    line = Line("least loaded").submit("a", "b", "c", "d", "e").end(1)
    assert line.jobs[4:] == []  # the fifth was bound to the quick engine, which is full
    assert line.submit("f").engines[4:] == [SLOW]


def test_a_session_stays_where_its_last_call_ran() -> None:
    stages = [ask(), ask("again", after="ask")]
    line = Line("session affinity").submit("a", "b", stages=stages).end(1, 0)
    assert line.engines == [QUICK, SLOW, SLOW, QUICK]


def test_hexgen_as_coded_gives_slow_gpus_twice_the_time_whatever_they_wait_for() -> None:
    """With alpha 0 only cumulative work counts, and that of slow kinds counts half."""
    fleet = [replace(spec, max_running=64) for spec in FLEET]
    line = Line(hexgen(alpha=0.0), *fleet).submit(*(f"j{number}" for number in range(60)))
    core = line.core._state
    assert core.given[SLOW].stage_s / core.given[QUICK].stage_s == pytest.approx(2.0, rel=0.15)


def test_with_a_great_alpha_hexgen_gives_slow_gpus_nothing() -> None:
    fleet = [replace(spec, max_running=64) for spec in FLEET]
    line = Line(hexgen(alpha=0.9), *fleet).submit(*(f"j{number}" for number in range(20)))
    assert set(line.engines) == {QUICK}


def test_late_binding_leaves_calls_in_one_line_by_deadline() -> None:
    line = Line("late binding").submit("a", "b", "c", "d", "e", "f", "g", e=300.0, f=50.0, g=200.0).end(3, 0)
    assert line.jobs[4:] == ["f", "g"]


def test_a_call_that_failed_goes_elsewhere_before_all_that_wait() -> None:
    line = Line("late binding").submit("a", "b", "c", "d", "e")
    failed = line.sent[0]
    line.tell(NodeFailed(line.now, failed.node, failed.attempt, BUSY))
    assert line.jobs[4:] == ["e"]


def test_an_engine_that_is_lost_gives_its_line_to_the_others() -> None:
    line = Line("round robin").submit("a", "b", "c", "d", "e", "f")
    waiting = [job for job in "ef" if job not in line.jobs]
    line.tell(EngineLost(line.now, QUICK)).end(1, 3)
    assert set(waiting) & set(line.jobs[4:])
    assert set(line.engines[4:]) == {SLOW}


def test_without_deadlines_halo_goes_by_prefixes_as_batches_do() -> None:
    plan = Plan("p", (Input("q"),), (ask(),), Const(1))
    line = Line("halo")
    line.tell(JobSubmitted(0.0, JobId("batch"), plan, 6)).tell(BatchPlanned(0.0, JobId("batch"), plan, range(6), {}))
    assert len(line.sent) == 4
    assert line.sent[0].reason.startswith("least predicted load")


def test_calls_with_a_deadline_go_before_those_without() -> None:
    plan = Plan("p", (Input("q"),), (ask(),), Const(1))
    line = Line("halo")
    line.tell(JobSubmitted(0.0, JobId("batch"), plan, 9)).tell(BatchPlanned(0.0, JobId("batch"), plan, range(9), {}))
    line.submit("soon").end(0)
    assert line.jobs[4:] == ["soon"]


def test_calls_without_a_deadline_get_a_place_now_and_then_however_many_have_one() -> None:
    plan = Plan("p", (Input("q"),), (ask(),), Const(1))
    line = Line("halo").submit(*(f"soon{number}" for number in range(60)))
    line.tell(JobSubmitted(0.0, JobId("batch"), plan, 3)).tell(BatchPlanned(0.0, JobId("batch"), plan, range(3), {}))
    line.end(*range(50))
    assert [at for at, job in enumerate(line.jobs) if job == "batch"] == [33]


def test_of_jobs_without_a_deadline_the_more_urgent_class_goes_first_until_the_other_has_waited() -> None:
    plan = Plan("p", (Input("q"),), (ask(),), Const(1))

    def jobs(after_s: float) -> list[str]:
        line = Line("halo").submit("a", "b", "c", "d")
        for job, slo in (("batch", SloClass.BATCH), ("standard", SloClass.STANDARD)):
            line.tell(JobSubmitted(line.now, JobId(job), plan, 1, slo=slo))
            line.tell(BatchPlanned(line.now, JobId(job), plan, range(1), {}))
            line.now += after_s
        return line.end(0, 1).jobs[4:]

    assert jobs(after_s=0.0) == ["standard", "batch"]
    assert jobs(after_s=AGEING_S + 1) == ["batch", "standard"]
