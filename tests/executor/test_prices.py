"""Prices of engines, and what follows for calls that wait for any of them."""

from dataclasses import replace

import pytest
from example_plans import generate
from hypothesis import given
from hypothesis import strategies as st

from executor.commands import Command, Dispatch, Prepare, Settle
from executor.core.scheduler import Scheduler
from executor.engines.model.profiles import PROFILES
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled
from executor.policy.dearness import Margin, dearness
from executor.policy.prices import LEAST_PRICE, MixedStage, prices_of
from executor.policy.rules import HALO
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Input, Plan, Sampling

READER, WRITER = EngineId("reader"), EngineId("writer")
QUICK = PROFILES["A100"]
#: Reads as the one kind, writes as the other: eight times the KV, and a quarter of its speed in reading.
FLEET = (
    EngineSpec(READER, "scripted", ("small",), profile=replace(QUICK, kv_tokens=20_000), kv_tokens=20_000),
    EngineSpec(
        WRITER,
        "scripted",
        ("small",),
        profile=replace(QUICK, token_s=4 * QUICK.token_s, kv_tokens=160_000),
        kv_tokens=160_000,
    ),
)
#: Tokens of prompt and answer, by stage.
CALLS = {"read": (8_000, 4), "write": (1_000, 1_000)}
seconds = st.floats(0.01, 100.0)


def test_engines_of_one_kind_are_worth_the_same_whatever_comes() -> None:
    assert prices_of([3], [MixedStage(1.0, [2.0])]) == (1.0,)


def test_who_is_better_at_everything_is_dearer_by_as_much() -> None:
    quick, slow = prices_of([1, 1], [MixedStage(5.0, [1.0, 2.0]), MixedStage(1.0, [3.0, 6.0])])
    assert quick / slow == pytest.approx(2.0)


def test_each_stage_is_cheapest_where_its_advantage_is_greatest() -> None:
    """The second kind is slower at both, at the second stage only a little."""
    stages = [MixedStage(1.0, [1.0, 4.0]), MixedStage(1.0, [1.0, 1.2])]
    prices = dict(zip(("one", "two"), prices_of([1, 1], stages), strict=True))
    usual = dict.fromkeys(prices, 1.0)
    costs = [dearness(dict(zip(prices, stage.load_s, strict=True)), prices, usual) for stage in stages]
    assert costs[0]["one"] == 1.0
    assert costs[0]["two"] > 3
    assert costs[1]["two"] == 1.0


@given(st.lists(st.tuples(st.floats(0.1, 100.0), seconds, seconds, seconds), min_size=1, max_size=8))
def test_prices_are_positive_and_the_same_for_the_same_mix(mix: list[tuple[float, float, float, float]]) -> None:
    stages = [MixedStage(calls, load_s) for calls, *load_s in mix]
    prices = prices_of([2, 1, 4], stages)
    assert prices == prices_of([2, 1, 4], stages)
    assert min(prices) >= LEAST_PRICE


@given(st.floats(0, 100.0), st.floats(0, 100.0))
def test_the_margin_grows_with_the_backlog_between_its_ends(one: float, other: float) -> None:
    margin = Margin(0.2, 5.0, backlog=4.0)
    less, more = sorted((one, other))
    assert margin.least <= margin.at(less) <= margin.at(more) <= margin.most


class Market:
    """A core that has learnt what its two stages are like: the writer is not enough for all that is written."""

    def __init__(self, margin: Margin | None = None) -> None:
        self.core, self.now = Scheduler(FLEET, rule=replace(HALO, margin=margin or HALO.margin)), 0.0
        self.sent: list[Dispatch] = []
        self.submit(4, "read").submit(16, "write").end()

    def submit(self, programs: int, stage: str) -> "Market":
        """Programs of one call each, with a deadline, at one instant."""
        asks = replace(generate(stage, Column("q")), sampling=Sampling(max_tokens=CALLS[stage][1]))
        plan, job = Plan("p", (Input("q"),), (asks,), Const(1)), JobId(f"{stage}{self.now}")
        self.tell(JobSubmitted(self.now, job, plan, programs, deadline_s=self.now + 100))
        self.tell(BatchPlanned(self.now, job, plan, range(programs), {}))
        return self

    def end(self) -> "Market":
        """Whatever was sent has its answer."""
        while self.sent:
            call, self.now = self.sent.pop(0), self.now + 1.0
            self.tell(CallFinished(self.now, call.node, call.attempt, Usage(*CALLS[call.node.path])))
        return self

    def sent_to(self) -> dict[str, set[EngineId]]:
        found: dict[str, set[EngineId]] = {}
        for call in self.sent:
            found.setdefault(call.node.path, set()).add(call.engine)
        return found

    def tell(self, event: Event) -> None:
        events = [event]
        while events:
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            events += [answer for command in commands for answer in self._answers(command)]

    def _answers(self, command: Command) -> list[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                return [Prepared(self.now, node, attempt, None, *CALLS[node.path])]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
            case Dispatch():
                self.sent.append(command)
        return []


def test_calls_go_where_their_advantage_is() -> None:
    assert Market().submit(1, "read").sent_to() == {"read": {READER}}
    assert Market().submit(1, "write").sent_to() == {"write": {WRITER}}


def test_the_reason_tells_what_was_predicted() -> None:
    (call,) = Market().submit(1, "read").sent
    assert call.reason.startswith("halo: predicted ")
    assert {offer.view.spec.id for offer in call.offers} == {READER, WRITER}


def test_a_short_line_waits_for_the_engine_that_is_good_at_it() -> None:
    """Two prompts have room in the reader's KV; the third waits, though the writer is idle."""
    assert [call.engine for call in Market(Margin(crowded=0.5)).submit(3, "read").sent] == [READER, READER]


def test_while_hardly_anything_waits_who_has_room_takes_the_call() -> None:
    """The reader is full and the writer is idle: nobody else has a use for it."""
    market = Market(Margin(crowded=0.6)).submit(2, "read")
    market.now += 1.0
    market.submit(1, "read")
    assert [call.engine for call in market.sent] == [READER, READER, WRITER]
    assert "dearer" not in market.sent[2].reason


def test_with_a_backlog_an_engine_that_is_cheap_for_nobody_takes_what_is_least_dear() -> None:
    sent = Market(Margin(0.3, 50.0, backlog=1.0)).submit(4, "read").sent
    assert [call.engine for call in sent] == [READER, READER, WRITER]
    assert "dearer than at best" in sent[2].reason
