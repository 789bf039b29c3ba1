"""Ready calls of several tenants get engines by turns."""

from collections import Counter
from dataclasses import replace

import pytest
from example_plans import generate

from executor.commands import Command, Dispatch, Prepare, Settle
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled, WakeUp
from executor.policy.fairness import TenantShare
from executor.slo import SloClass
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId, ProgramId, job_of
from planner.ir.plan import Input, Plan

ENGINE = EngineSpec(EngineId("only"), "scripted", ("small",), max_running=2)
PLAN = Plan("p", (Input("q"),), (generate("ask", Column("q")),), Const(1))


class Story:
    """All programs run; calls are answered one by one when it is told to. `tokens` has the prompts' lengths by job."""

    def __init__(
        self, tokens: dict[str, int], tenants: dict[str, TenantShare] | None = None, engine: EngineSpec = ENGINE
    ) -> None:
        self.core, self.now = Scheduler([engine], Limits(active_programs=10_000, tenants=tenants or {})), 0.0
        self.tokens = tokens
        self.inside: list[Dispatch] = []
        self.given: Counter[str] = Counter()
        self.sent: list[str] = []

    def submit(self, name: str, rows: int, deadline_s: float | None = None, slo: SloClass = SloClass.STANDARD) -> None:
        job, tenant = JobId(name), name.partition("-")[0]
        self.tell(JobSubmitted(self.now, job, PLAN, rows, tenant=tenant, slo=slo, deadline_s=deadline_s))
        self.tell(BatchPlanned(self.now, job, PLAN, range(rows), {}))

    def answer(self, calls: int) -> None:
        for _ in range(calls):
            self.now += 1.0
            call = self.inside.pop(0)
            prompt_tokens = self.tokens[self._job(call.node.program)]
            self.given[self._job(call.node.program)] += prompt_tokens
            self.tell(CallFinished(self.now, call.node, call.attempt, Usage(prompt_tokens, 500)))

    def tell(self, event: Event) -> None:
        events = [event]
        while events:
            for command in self.core.handle(events.pop(0)):
                events.extend(self._answers(command))
        self.core.check_state()

    def _answers(self, command: Command) -> list[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                name = self._job(node.program)
                blocks = (hash(name), *range(3))
                return [Prepared(self.now, node, attempt, None, self.tokens[name], 500, blocks)]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
            case Dispatch(node=node):
                self.inside.append(command)
                self.sent.append(self._job(node.program))
        return []

    def _job(self, program: ProgramId) -> str:
        return str(job_of(program))


@pytest.mark.parametrize("deadlines", [(None, None), (1e4, None), (None, 1e4), (1e3, 1e5)])
def test_tenants_share_an_engine_by_its_time_whether_their_programs_have_deadlines_or_not(
    deadlines: tuple[float | None, float | None],
) -> None:
    story = Story({"ann": 4_000, "eve": 32_000})
    story.submit("eve", 600, deadlines[0])
    story.submit("ann", 600, deadlines[1])
    story.answer(400)
    shorter, longer = story.given["ann"], story.given["eve"]
    assert 0.8 < longer / shorter < 1.7  # each answer takes time of the engine, too


def test_a_tenant_of_twice_the_weight_gets_twice_as_much() -> None:
    story = Story({"ann": 8_000, "eve": 8_000}, {"ann": TenantShare(weight=2)})
    story.submit("eve", 600)
    story.submit("ann", 600)
    story.answer(450)
    assert 1.9 < story.given["ann"] / story.given["eve"] < 2.1


def test_turns_are_long_enough_for_prompts_with_one_beginning_to_stay_together() -> None:
    story = Story({"ann": 1_000, "eve": 1_000})
    story.submit("eve", 400)
    story.submit("ann", 400)
    story.answer(300)
    changes = sum(one != other for one, other in zip(story.sent, story.sent[1:], strict=False))
    assert changes <= len(story.sent) / 4


def test_background_calls_take_what_others_leave() -> None:
    story = Story({"ann": 8_000, "eve": 8_000})
    story.submit("eve", 20, slo=SloClass.BACKGROUND)
    story.submit("ann", 40)
    story.answer(42)
    assert story.given["ann"] == 40 * 8_000


def test_one_tenants_calls_go_as_if_there_were_no_turns() -> None:
    story = Story({"ann-batch": 8_000, "ann-urgent": 8_000})
    story.submit("ann-batch", 20, slo=SloClass.BATCH)
    story.submit("ann-urgent", 10, 30.0, slo=SloClass.INTERACTIVE)
    story.answer(12)
    assert story.given == {"ann-batch": 2 * 8_000, "ann-urgent": 10 * 8_000}


def test_no_tenant_fills_an_engines_line_while_another_may_want_the_engine() -> None:
    story = Story({"ann": 4_000, "eve": 4_000}, engine=replace(ENGINE, max_running=64, kv_tokens=50_000))
    story.submit("eve", 40)
    assert len(story.inside) > 50_000 / 4_000  # more than fit at once: the engine need not wait for the next
    story.submit("ann", 20)
    story.answer(12)
    held = Counter(story._job(call.node.program) for call in story.inside)
    assert held["ann"] > 0
    assert held.total() < 50_000 / 4_000


@pytest.mark.parametrize("deadline_s", [None, 1e4])
def test_prompts_of_a_flood_come_slowly_to_an_engine_in_which_another_tenant_asks_for_little(
    deadline_s: float | None,
) -> None:
    story = Story({"ann": 500, "eve": 32_000}, engine=replace(ENGINE, max_running=16))
    story.submit("ann", 1)
    story.submit("eve", 100, deadline_s)
    assert Counter(story.sent) == {"ann": 1, "eve": 15}
    story.inside.append(story.inside.pop(0))  # ann's is answered last
    story.answer(10)
    flooded = story.sent.count("eve")
    assert flooded < 15 + 10
    assert "quiet" in story.core.doings(JobId("eve"))[-1].why
    story.now += 60.0
    story.tell(WakeUp(story.now))
    assert story.sent.count("eve") == flooded + 1
