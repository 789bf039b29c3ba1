"""Routing follows placement: given these shares, these engines take these calls."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from example_plans import generate, output
from hypothesis import given
from hypothesis import strategies as st

from executor.commands import Dispatch, Prepare, Settle
from executor.core.scheduler import Scheduler
from executor.core.stage_shares import SLACK_CALLS, StageShares
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, EngineLost, Event, JobSubmitted, Prepared, Settled, WakeUp
from executor.placing import places
from executor.planning import plan_batch
from executor.policy.routing import EngineView, Offer, choose_engine
from planner.ir.expressions import Array, Column, Const
from planner.ir.ids import EngineId, JobId, NodeRef, StageId
from planner.ir.plan import Input, Plan
from planner.table import Table

BIG, LITTLE = EngineId("big"), EngineId("little")
ASK, THINK, JOB = StageId("ask"), StageId("think"), JobId("j")
PLAN = Plan(
    "p",
    (Input("q"),),
    (generate(ASK, Column("q")), replace(generate(THINK, Column("q")), model="large")),
    Const(1),
)


def fleet(room: int = 2) -> list[EngineSpec]:
    """The big engine serves both models, the little one only that of `ask`."""
    return [
        EngineSpec(BIG, "scripted", ("small", "large"), gpu="A100", max_running=room),
        EngineSpec(LITTLE, "scripted", ("small",), gpu="A100", max_running=room),
    ]


class Run:
    """A core that runs the plan on so many rows, and what is in flight."""

    def __init__(self, rows: int, shares: Mapping[EngineId, float], room: int = 2, plan: Plan = PLAN) -> None:
        self.core, self.now = Scheduler(fleet(room)), 0.0
        self.flying: list[Dispatch] = []
        self.sent: list[Dispatch] = []
        self.waiting: dict[NodeRef, str] = {}
        self.tell(JobSubmitted(0.0, JOB, plan, rows))
        self.tell(BatchPlanned(0.0, JOB, plan, range(rows), {}, shares={ASK: shares} if shares else {}))

    def tell(self, event: Event) -> None:
        events = [event]
        while events:
            for command in self.core.handle(events.pop(0)):
                match command:
                    case Prepare(node=node, attempt=attempt):
                        self.waiting[node] = node.path
                        events.append(Prepared(self.now, node, attempt, None, 100, 10))
                    case Settle(node=node, attempt=attempt):
                        events.append(Settled(self.now, node, attempt))
                    case Dispatch():
                        self.waiting.pop(command.node, None)
                        self.flying.append(command)
                        self.sent.append(command)
            self.core.check_state()

    def end(self, index: int) -> None:
        call = self.flying.pop(index)
        self.now += 1.0
        self.tell(CallFinished(self.now, call.node, call.attempt, Usage(100, 10)))

    def inside(self, engine: EngineId) -> int:
        return sum(call.engine == engine for call in self.flying)

    def count(self) -> Counter[tuple[str, str]]:
        return Counter((call.node.path, call.engine) for call in self.sent)


def test_who_alone_can_do_the_rest_is_left_to_do_it() -> None:
    run = Run(40, {LITTLE: 1.0})
    assert [(call.node.path, call.engine) for call in run.sent] == [
        (ASK, LITTLE),
        (ASK, LITTLE),
        (THINK, BIG),
        (THINK, BIG),
    ]


def test_without_shares_the_least_load_takes_it() -> None:
    run = Run(40, {})
    assert {call.engine for call in run.sent if call.node.path == ASK} == {BIG, LITTLE}


def test_where_nothing_else_waits_no_engine_is_idle_whatever_its_share() -> None:
    only_ask = replace(PLAN, stages=PLAN.stages[:1])
    run = Run(40, {LITTLE: 1.0}, plan=only_ask)
    assert (run.inside(BIG), run.inside(LITTLE)) == (2, 2)


def test_when_an_engine_the_plan_counts_on_is_lost_the_others_take_all() -> None:
    run = Run(8, {LITTLE: 1.0})
    run.flying = [call for call in run.flying if call.engine != LITTLE]
    run.tell(EngineLost(1.0, LITTLE))
    run.now = 60.0
    run.tell(WakeUp(run.now))  # those that were lost are tried again
    while run.flying:
        run.end(0)
    assert run.count()[ASK, BIG] == 8


def test_the_reason_tells_who_was_passed_over() -> None:
    offers = [
        Offer(EngineView(spec, load_s=load_s), 1.0, 100) for spec, load_s in zip(fleet(), (0.0, 0.5), strict=True)
    ]
    choice = choose_engine(offers, planned=[LITTLE])
    assert choice is not None
    assert choice.engine == LITTLE
    assert choice.reason.endswith("1 passed over, above their planned share")


def test_who_is_far_quicker_takes_it_whatever_its_share() -> None:
    offers = [
        Offer(EngineView(spec, load_s=load_s), 1.0, 100) for spec, load_s in zip(fleet(), (0.0, 9.0), strict=True)
    ]
    choice = choose_engine(offers, planned=[LITTLE])
    assert choice is not None
    assert choice.engine == BIG


def test_shares_are_planned_only_for_what_unlike_engines_serve_and_rows_that_do_not_all_fit() -> None:
    unlike, like = fleet(), [replace(fleet()[0], id=EngineId(name)) for name in "ab"]
    assert places(PLAN, 5, unlike)
    assert not places(PLAN, 4, unlike)
    assert not places(PLAN, 1000, like)
    table = Table.from_rows([{"q": f"q{row}"} for row in range(64)], PLAN.inputs)
    read = replace(PLAN, result=Array((output(ASK), output(THINK))))
    shares = plan_batch(JOB, read, table, 0.0, fleet=unlike).shares
    assert list(shares) == [ASK]
    assert abs(sum(shares[ASK].values()) - 1) < 1e-9
    assert shares[ASK].get(LITTLE, 0.0) > 0.5
    assert plan_batch(JOB, read, table, 0.0, fleet=like).shares == {}


@given(
    rows=st.integers(1, 30),
    share=st.floats(0, 1),
    room=st.integers(1, 4),
    ends=st.lists(st.integers(0, 99), max_size=200),
)
def test_every_stage_runs_once_and_no_engine_is_idle_while_it_may_serve(
    rows: int, share: float, room: int, ends: list[int]
) -> None:
    """A law, whichever call ends first."""
    shares = {engine: part for engine, part in ((BIG, share), (LITTLE, 1 - share)) if part > 0}
    run = Run(rows, shares, room)
    picks = iter(ends)
    while run.flying:
        if run.waiting:
            assert run.inside(BIG) == room
        if ASK in run.waiting.values():
            assert run.inside(LITTLE) == room
        run.end(next(picks, 0) % len(run.flying))
    assert Counter(call.node for call in run.sent) == {
        NodeRef(call.node.program, stage): 1 for call in run.sent for stage in (ASK, THINK)
    }
    assert len(run.sent) == 2 * rows


@given(st.integers(1, 9), st.integers(200, 400))
def test_shares_are_approached_in_the_long_run(tenths: int, calls: int) -> None:
    """Where each call goes to somebody who should have it, none is off by more than the slack and one call."""
    planned = {BIG: tenths / 10, LITTLE: 1 - tenths / 10}
    shares, sent = StageShares(planned), Counter[EngineId]()
    for _ in range(calls):
        engine = next(engine for engine in planned if shares.wants(engine))
        shares.send(engine)
        sent[engine] += 1
    for engine, share in planned.items():
        assert abs(sent[engine] - share * calls) <= SLACK_CALLS + 1
