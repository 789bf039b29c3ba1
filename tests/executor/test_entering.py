"""Programs of several tenants enter by turns, each tenant's in the order of its jobs."""

from collections import Counter
from collections.abc import Iterator

from example_plans import generate

from executor.commands import BeginProgram, Dispatch, FinishProgram, Prepare, Settle
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled
from executor.policy.fairness import TenantShare
from executor.slo import SloClass
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan

ENGINE = EngineSpec(EngineId("only"), "scripted", ("small",), max_running=2)
PLAN = Plan("p", (Input("q"),), (generate("ask", Column("q")),), Const(1))
FOUR = Limits(active_programs=4)


class Story:
    """One engine that answers calls one at a time when it is told to; everything else is answered at once."""

    def __init__(self, limits: Limits = FOUR) -> None:
        self.core, self.now = Scheduler([ENGINE], limits), 0.0
        self.began: list[JobId] = []
        self.ended: Counter[JobId] = Counter()
        self.inside: list[Dispatch] = []

    def submit(self, name: str, rows: int, tenant: str, slo: SloClass = SloClass.STANDARD) -> None:
        job = JobId(name)
        self.tell(JobSubmitted(self.now, job, PLAN, rows, tenant=tenant, slo=slo))
        self.tell(BatchPlanned(self.now, job, PLAN, range(rows), {}))

    def answer(self, calls: int) -> None:
        for _ in range(calls):
            self.now += 1.0
            call = self.inside.pop(0)
            self.tell(CallFinished(self.now, call.node, call.attempt, Usage(8000, 500)))

    def tell(self, event: Event) -> None:
        events = [event]
        while events:
            for command in self.core.handle(events.pop(0)):
                events.extend(self._answers(command))
        self.core.check_state()

    def _answers(self, command: object) -> Iterator[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                yield Prepared(self.now, node, attempt, None, 8000, 500)
            case Settle(node=node, attempt=attempt):
                yield Settled(self.now, node, attempt)
            case Dispatch():
                self.inside.append(command)
            case BeginProgram(job=job):
                self.began.append(job)
            case FinishProgram(job=job):
                self.ended[job] += 1


def test_a_tenant_that_comes_to_a_full_house_gets_the_next_places() -> None:
    story = Story(Limits(active_programs=3))
    story.submit("flood", 1000, "eve")
    story.submit("one", 1, "ann")
    assert story.began == ["flood"] * 3
    story.answer(1)
    assert story.began[3] == "one"


def test_a_tenant_below_its_share_need_not_wait_for_a_program_of_a_flood_to_end() -> None:
    story = Story(Limits(active_programs=40))
    story.submit("flood", 1000, "eve")
    assert Counter(story.began) == {"flood": 40}
    story.submit("batch", 1000, "ann")
    assert Counter(story.began) == {"flood": 40, "batch": 10}  # a quarter more than there are places
    story.answer(200)
    running = Counter(story.began) - story.ended
    assert running.total() == 40
    assert abs(running["flood"] - running["batch"]) <= 4


def test_one_that_has_its_share_of_the_places_waits_for_one_that_ends() -> None:
    story = Story(Limits(active_programs=40, tenants={"ann": TenantShare(weight=0.25)}))
    story.submit("flood", 1000, "eve")
    story.submit("batch", 30, "ann")
    assert Counter(story.began) == {"flood": 40, "batch": 8}


def test_background_work_waits_for_a_place() -> None:
    story = Story(Limits(active_programs=40))
    story.submit("flood", 1000, "eve")
    story.submit("idle", 30, "ann", SloClass.BACKGROUND)
    assert Counter(story.began) == {"flood": 40}


def test_tenants_that_always_want_more_run_as_many_programs_each() -> None:
    story = Story()
    story.submit("flood", 1000, "eve")
    story.submit("batch", 500, "ann")
    story.answer(400)
    assert abs(story.ended[JobId("flood")] - story.ended[JobId("batch")]) <= 8


def test_within_a_tenant_jobs_go_one_after_the_other_and_urgent_ones_first() -> None:
    story = Story()
    story.submit("first", 6, "ann", SloClass.BATCH)
    story.submit("second", 2, "ann", SloClass.BATCH)
    story.submit("asked", 1, "ann", SloClass.INTERACTIVE)
    story.answer(9)
    assert story.began == ["first"] * 4 + ["asked"] + ["first"] * 2 + ["second"] * 2


def test_background_work_begins_when_nothing_else_waits() -> None:
    story = Story()
    story.submit("idle", 10, "eve", SloClass.BACKGROUND)
    story.submit("batch", 20, "ann", SloClass.BATCH)
    story.answer(20)
    assert story.began[4:24] == ["batch"] * 20


def test_a_tenant_runs_no_more_programs_than_its_quota_and_leaves_the_room_to_others() -> None:
    story = Story(Limits(active_programs=4, tenants={"eve": TenantShare(running=1)}))
    story.submit("flood", 10, "eve")
    assert story.began == ["flood"]
    story.submit("batch", 10, "ann")
    assert Counter(story.began) == {"flood": 1, "batch": 3}
    story.answer(20)
    assert story.ended == {"flood": 10, "batch": 10}


def test_a_batch_beside_urgent_work_without_end_begins_a_program_now_and_then() -> None:
    story = Story()
    story.submit("batch", 100, "ann", SloClass.BATCH)
    story.submit("asked", 2000, "ann", SloClass.INTERACTIVE)
    story.answer(4)
    first = len(story.began)
    story.answer(1500)
    began = story.began[first:]
    last = max(place for place, job in enumerate(began) if job == "batch")
    assert 2 <= began.count(JobId("batch")) <= 4
    assert last > 1000
