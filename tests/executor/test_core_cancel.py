"""A cancelled job frees only what nobody else needs: told as stories, and as a law over random plans and cancels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from example_plans import LOOKUP, generate, output, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_strategies import FakeWorld, plans, rows_for
from tabletop import Tabletop

from executor.commands import (
    Abort,
    BeginProgram,
    Command,
    Dispatch,
    FinishJob,
    FinishProgram,
    HandOver,
    PlanBatch,
    RunTool,
    Status,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import Failure, FailureClass
from executor.events import Cancelled, Event, JobSubmitted, NodeFailed
from executor.planning import plan_batch
from executor.values import Values
from planner.interpret import StageFailed, interpret
from planner.ir.expressions import Array, Column
from planner.ir.ids import JobId, NodeRef, ProgramId
from planner.ir.plan import Input, Plan, Stage
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.passes.drop_unused_stages import drop_unused_stages
from planner.table import Table

ONE, TWO = JobId("one"), JobId("two")


@dataclass
class Jobs(Tabletop):
    """Several jobs on one table top. `ended[job, row]` is what the program gave, or None where it gave nothing."""

    ended: dict[tuple[JobId, int], Json | Failure | None] = field(default_factory=dict)
    statuses: dict[JobId, Status] = field(default_factory=dict)
    last: list[Command] = field(default_factory=list)

    def begin(self) -> "Jobs":
        self.core, self.values, self.random = Scheduler(self.fleet, self.limits), Values(), Random(self.seed)
        self.jobs: dict[JobId, tuple[Plan, Table]] = {}
        self.stored, self.stages, self.open, self.probes_due, self.now = {}, {}, [], {}, 0.0
        return self

    def submit(self, job: JobId, plan: Plan, rows: Sequence[Mapping[str, Json]], tenant: str = "") -> list[Command]:
        self.jobs[job] = plan, Table.from_rows(rows, plan.inputs)
        return self.tell(JobSubmitted(self.now, job, plan, len(rows), tenant=tenant))

    def cancel(self, job: JobId) -> list[Command]:
        return self.tell(Cancelled(self.now, job))

    def tell(self, event: Event) -> list[Command]:
        before = len(self.commands)
        self.feed(event)
        return self.commands[before:]

    def step(self) -> list[Command]:
        before = len(self.commands)
        self._answer(self.open.pop(self._pick()))
        return self.commands[before:]

    def to_the_end(self) -> "Jobs":
        while self.open:
            self.step()
        return self

    def running(self) -> list[str]:
        return [str(command.node) for command in self.open if isinstance(command, Dispatch | RunTool)]

    def _perform(self, command: Command) -> list[Event]:
        match command:
            case PlanBatch(job=job):
                return [plan_batch(job, *self.jobs[job], self.now)]
            case BeginProgram(program=program, job=job, row=row, plan=plan):
                self.values.open_program(program, plan, self.jobs[job][1].row(row))
            case FinishProgram(program=program, job=job, row=row, status=status, failure=failure):
                succeeded = status is Status.SUCCEEDED
                self.ended[job, row] = self.values.output(NodeRef(program, "")) if succeeded else failure
                self.values.forget_program(program)
            case FinishJob(job=job, status=status):
                self.statuses[job] = status
            case _:
                return super()._perform(command)
        return []


def jobs_of(*stages: Stage, one: list[str], two: list[str]) -> Jobs:
    """Two jobs of one plan, submitted one after the other."""
    plan = Plan("p", (Input("q"),), stages, output(stages[-1].id))
    table = Jobs(FakeWorld(), limits=Limits(active_programs=8)).begin()
    for job, questions in ((ONE, one), (TWO, two)):
        table.submit(job, plan, [{"q": question} for question in questions])
    return table


def ask(program: str) -> NodeRef:
    return NodeRef(ProgramId(program), "ask")


def only(kind: type[Command], commands: Sequence[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def test_a_call_that_another_job_waits_for_goes_on_as_that_jobs_own() -> None:
    table = jobs_of(generate("ask", Column("q")), one=["a", "b"], two=["a"])
    assert table.running() == ["one/0:ask", "one/1:ask"]

    commands = table.cancel(ONE)

    assert only(HandOver, commands) == [HandOver(ask("one/0"), 1, ask("two/0"), 2)]
    assert only(Abort, commands) == [Abort(ask("one/1"), 1)]
    assert table.running() == ["two/0:ask"]
    table.to_the_end()
    assert table.statuses == {ONE: Status.CANCELLED, TWO: Status.SUCCEEDED}
    assert len(only(Dispatch, table.commands)) == 2, "nothing was asked twice"


def test_the_time_of_a_call_that_goes_on_as_another_tenants_is_charged_to_that_one() -> None:
    plan = Plan("p", (Input("q"),), (generate("ask", Column("q")),), output("ask"))
    table = Jobs(FakeWorld(), limits=Limits(active_programs=8)).begin()
    table.submit(ONE, plan, [{"q": "a"}], tenant="ann")
    table.submit(TWO, plan, [{"q": "a"}], tenant="bob")
    table.cancel(ONE)
    open_s = table.core._state.turns._open_s
    assert [tenant for (tenant, _), seconds in open_s.items() if seconds] == ["bob"]
    table.to_the_end()
    assert not any(table.core._state.turns._open_s.values())


def test_a_tool_too_and_it_is_handed_on_again_until_nobody_needs_it() -> None:
    table = jobs_of(tool("look", LOOKUP, db=Column("q")), one=["a"], two=["a"])
    table.submit(JobId("three"), *_again(table))
    table.cancel(ONE)
    table.cancel(TWO)
    assert table.running() == ["three/0:look"]
    assert only(Abort, table.cancel(JobId("three"))) != []
    assert table.running() == []
    assert len(only(RunTool, table.commands)) == 1


def _again(table: Jobs) -> tuple[Plan, list[dict[str, Json]]]:
    plan, rows = table.jobs[TWO]
    return plan, [rows.row(row) for row in range(rows.rows)]


def test_two_jobs_of_the_same_equal_rows_ask_once_and_each_row_gets_the_answer() -> None:
    table = jobs_of(generate("ask", Column("q")), one=["a", "a"], two=["a", "a", "a"]).to_the_end()
    assert table.statuses == {ONE: Status.SUCCEEDED, TWO: Status.SUCCEEDED}
    assert len(only(Dispatch, table.commands)) == 1
    assert len({str(result) for result in table.ended.values()}) == 1


def test_of_a_job_that_is_cancelled_no_row_is_heir_to_another() -> None:
    table = jobs_of(generate("ask", Column("q")), one=["a", "a", "a"], two=["b"])
    commands = table.cancel(ONE)
    assert only(HandOver, commands) == []
    assert table.running() == ["two/0:ask"]


def test_a_row_that_fails_leaves_its_running_call_to_those_who_wait_for_it() -> None:
    """`look` fails in the first row only; both rows ask the same."""
    plan = Plan(
        "p",
        (Input("q"), Input("db")),
        (generate("ask", Column("q")), tool("look", LOOKUP, db=Column("db"))),
        Array((output("ask"), output("look"))),
    )
    table = Jobs(FakeWorld(), limits=Limits(active_programs=8)).begin()
    table.submit(ONE, plan, [{"q": "same", "db": "x"}, {"q": "same", "db": "y"}])
    failing = next(c for c in table.open if isinstance(c, RunTool) and str(c.node) == "one/0:look")
    table.open.remove(failing)
    commands = table.tell(NodeFailed(table.now, failing.node, 1, Failure(FailureClass.ROW, "no", "no such database")))

    assert only(Abort, commands) == []
    assert [str(c.heir) for c in commands if isinstance(c, HandOver)] == ["one/1:ask"]
    table.to_the_end()
    assert isinstance(table.ended[ONE, 0], Failure)
    assert isinstance(table.ended[ONE, 1], list)
    assert len(only(Dispatch, table.commands)) == 1


@given(st.data(), st.integers(0, 2**16))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_cancels_stop_what_nobody_needs_and_nothing_else(data: st.DataObject, seed: int) -> None:
    plan = data.draw(plans())
    rows = data.draw(rows_for(plan))
    names = [JobId(f"job{number}") for number in range(data.draw(st.integers(2, 3)))]
    table = Jobs(FakeWorld(), seed, limits=Limits(active_programs=data.draw(st.integers(1, 12)))).begin()
    watch = Watch(table)
    for name in names:
        watch.check(table.submit(name, plan, rows))
    cancelled = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    for name in cancelled:
        for _ in range(data.draw(st.integers(0, 15))):
            if table.open:
                watch.check(table.step())
        watch.check(table.cancel(name))
    while table.open:
        watch.check(table.step())
    reference = _reference(plan, rows)
    for (job, row), ended in table.ended.items():
        if table.statuses[job] is not Status.CANCELLED:
            assert ("failed" if isinstance(ended, Failure) else ("ok", ended)) == reference[row]
    assert set(table.statuses) == set(names)
    assert not len(table.core._state.shared)


@dataclass
class Watch:
    """Says what was wrongly stopped or wrongly left running."""

    table: Jobs
    over: set[ProgramId] = field(default_factory=set)
    waiting: dict[NodeRef, list[NodeRef]] = field(default_factory=dict)

    def check(self, commands: Sequence[Command]) -> None:
        self.over |= {command.program for command in commands if isinstance(command, FinishProgram)}
        for command in commands:
            if isinstance(command, Abort):
                needed_by = [node for node in self.waiting.get(command.node, []) if node.program not in self.over]
                assert not needed_by, f"{command.node} was stopped, but {needed_by} waited for it"
        for running in self.table.open:
            if isinstance(running, Dispatch | RunTool):
                assert running.node.program not in self.over, f"{running.node} goes on, but nobody needs it"
        entries = [entry for entry in self.table.core._state.shared._entries.values() if entry.owner is not None]
        self.waiting = {}
        for entry in entries:
            self.waiting.setdefault(entry.owner.ref, []).extend(work.ref for work in entry.waiting)


def _reference(plan: Plan, rows: list[dict[str, Json]]) -> dict[int, object]:
    table = Table.from_rows(rows, plan.inputs)
    (part,) = optimize([JobPart(plan, table)], passes=(drop_unused_stages,)).parts
    return {row: _one(part.plan, table.row(row)) for row in range(table.rows)}


def _one(plan: Plan, row: dict[str, Json]) -> object:
    try:
        return ("ok", interpret(plan, row, FakeWorld()))
    except StageFailed:
        return "failed"
