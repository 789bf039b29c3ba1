"""Adapters, and engines that are kept for tenants: a call goes only to engines that serve its model to its tenant."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from example_plans import generate, output
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.commands import Command, Dispatch, FinishJob, FinishProgram, Prepare, Settle, Status
from executor.core.limits import Limits
from executor.core.pools import Pools
from executor.core.scheduler import Scheduler
from executor.door.commands import Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallArrived
from executor.engines.port import EngineSpec, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    EngineBack,
    EngineLost,
    Event,
    JobSubmitted,
    Prepared,
    Settled,
    WakeUp,
)
from executor.slo import SloClass
from planner.ir.expressions import Column
from planner.ir.ids import ContentKey, EngineId, JobId, ProgramId
from planner.ir.plan import Input, Plan

ONE, TWO, OWN = EngineId("one"), EngineId("two"), EngineId("own")
BASE = EngineSpec(ONE, "scripted", ("base",), gpu="A100-80", max_running=2, kv_tokens=100_000)
WITH_SQL = replace(BASE, id=TWO, adapters=("sql",))
FOR_ANN = replace(BASE, id=OWN, tenants=("ann",))

#: A turn is over when a call or two of these are.
LONG = Usage(4000, 2000)


class House:
    """A core whose programs are one call each; `tenants` of jobs are told when they are submitted."""

    def __init__(self, *fleet: EngineSpec) -> None:
        self.core, self.now = Scheduler(fleet, Limits(no_engine_s=30.0, active_programs=10_000)), 0.0
        self.commands: list[Command] = []
        self.ended = 0
        self.key: ContentKey | None = None
        self.usage = Usage(100, 10)

    def submit(
        self,
        job: str,
        rows: int = 1,
        model: str = "base",
        tenant: str = "",
        slo: SloClass = SloClass.STANDARD,
        deadline_s: float | None = None,
    ) -> "House":
        plan = Plan("p", (Input("q"),), (generate("ask", Column("q"), model=model),), output("ask"))
        self.tell(JobSubmitted(self.now, JobId(job), plan, rows, tenant=tenant, slo=slo, deadline_s=deadline_s))
        return self.tell(BatchPlanned(self.now, JobId(job), plan, range(rows), {}))

    def end_one(self) -> None:
        call = self.sent[self.ended]
        self.ended += 1
        self.now += 1
        self.tell(CallFinished(self.now, call.node, call.attempt, self.usage))

    def end_all(self) -> "House":
        while self.ended < len(self.sent):
            self.end_one()
        return self

    def wake(self, times: int) -> "House":
        """Every second."""
        for _ in range(times):
            self.now += 1
            self.tell(WakeUp(self.now))
        return self

    def tell(self, event: Event) -> "House":
        events = [event]
        while events:
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            self.commands += commands
            events += [answer for command in commands for answer in self._answers(command)]
        return self

    @property
    def sent(self) -> list[Dispatch]:
        return [one for one in self.commands if isinstance(one, Dispatch)]

    def engines_of(self, job: str) -> set[EngineId]:
        return {one.engine for one in self.sent if one.node.program.startswith(f"{job}/")}

    @property
    def failed(self) -> list[FinishProgram]:
        return [one for one in self.commands if isinstance(one, FinishProgram) and one.status is Status.FAILED]

    def _answers(self, command: Command) -> Sequence[Event]:
        match command:
            case Prepare(node=node, attempt=attempt):
                return [Prepared(self.now, node, attempt, self.key, self.usage.prompt_tokens, self.usage.output_tokens)]
            case Settle(node=node, attempt=attempt):
                return [Settled(self.now, node, attempt)]
        return []


def test_an_adapter_that_all_engines_of_its_model_serve_waits_with_it() -> None:
    both = Pools([replace(BASE, adapters=("sql",)), WITH_SQL])
    assert both.of("sql", "") == both.of("base", "")
    assert both.models[both.of("sql", "")] == ["base", "sql"]
    some = Pools([BASE, WITH_SQL])
    assert some.engines[some.of("sql", "")] == (TWO,)
    assert some.engines[some.of("base", "")] == (ONE, TWO)
    assert some.sharing() == [[some.of("base", ""), some.of("sql", "")]]


def test_who_has_engines_of_its_own_may_use_the_others_too_and_nobody_else_those() -> None:
    pools = Pools([BASE, FOR_ANN])
    assert pools.engines[pools.of("base", "ann")] == (ONE, OWN)
    assert pools.engines[pools.of("base", "bob")] == pools.engines[pools.of("base", "")] == (ONE,)
    assert Pools([FOR_ANN]).of("base", "bob") not in Pools([FOR_ANN]).engines


def test_a_model_that_is_named_as_a_pool_is_opens_none() -> None:
    pools = Pools([BASE, FOR_ANN])
    for named in (pools.of("base", "ann"), pools.of("no-such-model", "")):
        assert pools.of(named, "bob") not in pools.engines
    (refused,) = DoorCore([BASE, FOR_ANN]).handle(arrival(1, "bob", pools.of("base", "ann")))
    assert isinstance(refused, Refuse)


def test_two_models_of_the_same_engines_wait_apart() -> None:
    pools = Pools([replace(BASE, models=("small", "large"))])
    assert pools.of("small", "") != pools.of("large", "")


def test_a_call_goes_only_to_engines_that_serve_its_adapter() -> None:
    house = House(BASE, WITH_SQL).submit("sql", 4, model="sql").end_all().submit("plain", 4).end_all()
    assert house.engines_of("sql") == {TWO}
    assert house.engines_of("plain") == {ONE, TWO}
    assert len([one for one in house.commands if isinstance(one, FinishJob)]) == 2


def test_a_later_job_of_an_adapter_does_not_pass_an_earlier_one_of_its_model_nor_the_other_way_round() -> None:
    for first, second in (("base", "sql"), ("sql", "base")):
        house = (
            House(replace(WITH_SQL, max_running=1)).submit("first", 3, model=first).submit("second", 3, model=second)
        )
        house.end_all()
        assert [one.node.program.split("/")[0] for one in house.sent] == ["first"] * 3 + ["second"] * 3
    beside = House(BASE, replace(WITH_SQL, max_running=1)).submit("early", 9).submit("late", 2, model="sql").end_all()
    at_two = [one.node.program.split("/")[0] for one in beside.sent if one.engine == TWO]
    assert at_two == sorted(at_two)  # early before late, though they stand in two pools


@pytest.mark.parametrize("other", ["", "bob"])
@pytest.mark.parametrize(("slo", "deadline_s"), [(SloClass.STANDARD, 5.0), (SloClass.INTERACTIVE, None)])
def test_an_urgent_call_of_an_adapter_passes_calls_of_its_model_that_have_time(
    slo: SloClass, deadline_s: float | None, other: str
) -> None:
    house = House(BASE, replace(WITH_SQL, max_running=1)).submit("patient", 30, deadline_s=100_000.0)
    house.submit("bobs", 30, tenant=other, deadline_s=100_000.0).end_one()
    before = len(house.sent)
    house.submit("urgent", 2, model="sql", slo=slo, deadline_s=deadline_s).end_all()
    sent = [one.node.program.split("/")[0] for one in house.sent[before:]]
    assert max(at for at, job in enumerate(sent) if job == "urgent") < 12


@pytest.mark.parametrize("deadline_s", [None, 1e4])
def test_a_flood_leaves_the_last_place_of_a_quiet_engine_whether_it_has_a_deadline_or_not(
    deadline_s: float | None,
) -> None:
    house = House(replace(BASE, max_running=4), replace(WITH_SQL, max_running=4))
    house.submit("ann", 1, tenant="ann").wake(3).submit("eve", 20, tenant="eve", deadline_s=deadline_s).wake(10)
    quiet, other = house.sent[0].engine, house.sent[1].engine
    assert Counter(one.engine for one in house.sent) == {quiet: 3, other: 4}
    assert "quiet" in house.core.doings(JobId("eve"))[-1].why


@pytest.mark.parametrize("deadline_s", [None, 1e4])
def test_no_place_of_a_quiet_engine_is_kept_from_who_may_go_to_no_other(deadline_s: float | None) -> None:
    house = House(replace(BASE, max_running=4), replace(WITH_SQL, max_running=4))
    house.submit("ann", 3, model="sql", tenant="ann").wake(3)
    house.submit("eve", 1, model="sql", tenant="eve", deadline_s=deadline_s)
    assert house.engines_of("eve") == {TWO}


@pytest.mark.parametrize("slo", SloClass)
def test_engines_kept_for_a_tenant_take_nobody_elses_calls(slo: SloClass) -> None:
    house = House(BASE, FOR_ANN).submit("bob", 6, tenant="bob", slo=slo).submit("none", 2, slo=slo)
    house.submit("ann", 6, tenant="ann", slo=slo).end_all()
    assert house.engines_of("bob") | house.engines_of("none") == {ONE}
    assert OWN in house.engines_of("ann")
    assert not house.failed


def test_equal_work_is_not_done_for_a_stranger_on_engines_that_are_kept_from_him() -> None:
    house = House(FOR_ANN)
    house.key = ContentKey("equal")
    house.submit("ann", 1, tenant="ann").submit("bob", 1, tenant="bob").end_all()
    assert [one.program for one in house.failed] == ["bob/0"]


def test_equal_work_of_tenants_with_engines_of_their_own_runs_for_each_at_its_own_place() -> None:
    house = House(BASE, FOR_ANN)
    house.key = ContentKey("equal")
    house.submit("ann", 1, tenant="ann").submit("bob", 1, tenant="bob").end_all()
    assert len(house.sent) == 2
    assert not house.failed


def test_equal_work_of_tenants_that_use_the_same_engines_is_done_once() -> None:
    house = House(BASE)
    house.key = ContentKey("equal")
    house.submit("ann", 1, tenant="ann").submit("bob", 2, tenant="bob").end_all()
    assert len(house.sent) == 1


def test_who_has_an_engine_of_its_own_takes_turns_for_those_of_all() -> None:
    """Ann came first with much; Bob's calls have half of the engine that both may use."""
    house = House(BASE, FOR_ANN)
    house.usage = LONG
    house.submit("ann", 40, tenant="ann").submit("bob", 10, tenant="bob")
    while len([one for one in house.sent if one.node.program.startswith("bob/")]) < 10:
        house.end_one()
    shared = Counter(one.node.program.split("/")[0] for one in house.sent if one.engine == ONE)
    assert shared["ann"] <= shared["bob"] + 4


def test_a_tenant_that_no_engine_serves_is_told_with_the_fix_and_not_whose_engines_would_while_the_others_run() -> None:
    house = House(FOR_ANN).submit("bob", 2, tenant="bob").submit("ann", 1, tenant="ann")
    assert [one.program for one in house.failed] == ["bob/0", "bob/1"]
    assert house.engines_of("ann") == {OWN}
    failure = house.failed[0].failure
    assert failure is not None
    assert failure.code == "unknown_model"
    assert "to the tenant 'bob', who may use: none; engines are kept for tenants in the fleet file" in failure.message


def test_where_a_tenants_own_engines_are_away_its_calls_wait_for_them_and_are_given_up_after_a_while() -> None:
    house = House(replace(BASE, models=("other",)), FOR_ANN).tell(EngineLost(0.0, OWN))
    house.submit("ann", 1, tenant="ann").submit("bob", 1, tenant="bob", model="other")
    assert house.engines_of("bob") == {ONE}
    house.now = 29.0
    assert not house.failed
    house.now = 30.0
    house.tell(WakeUp(30.0))
    assert [one.program for one in house.failed] == ["ann/0"]
    house.tell(EngineBack(31.0, OWN))
    house.now = 31.0
    assert house.submit("ann2", 1, tenant="ann").engines_of("ann2") == {OWN}


def test_nothing_is_kept_of_models_that_nobody_serves() -> None:
    house = House(BASE)
    for number in range(20):
        house.submit(f"job{number}", 1, model=f"unknown-{number}")
    assert len(house.failed) == 20
    state = house.core._state
    assert not any((state.calls, state.lines, state.markets, state.fed_at, state.stranded))


TENANTS = st.sampled_from(["", "ann", "bob"])
ENGINES = st.builds(
    replace,
    st.just(BASE),
    models=st.sampled_from([("base",), ("other",), ("base", "other")]),
    adapters=st.sampled_from([(), ("sql",), ("sql", "math")]),
    tenants=st.sampled_from([(), ("ann",), ("ann", "bob")]),
    max_running=st.integers(1, 3),
)
JOBS = st.tuples(
    TENANTS, st.sampled_from(["base", "other", "sql", "math"]), st.integers(1, 5), st.sampled_from(SloClass)
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ENGINES, min_size=1, max_size=4), st.lists(JOBS, min_size=1, max_size=6))
def test_every_call_goes_where_it_may_and_every_job_ends(
    engines: list[EngineSpec], jobs: list[tuple[str, str, int, SloClass]]
) -> None:
    fleet = [replace(engine, id=EngineId(f"e{number}")) for number, engine in enumerate(engines)]
    house = House(*fleet)
    for number, (tenant, model, rows, slo) in enumerate(jobs):
        house.submit(f"j{number}", rows, model, tenant, slo)
    house.end_all()
    specs = {spec.id: spec for spec in fleet}
    for call in house.sent:
        tenant, model, *_ = jobs[int(call.node.program.split("/")[0][1:])]
        assert specs[call.engine].serves(model, tenant)
    unserved = [(tenant, model) for tenant, model, *_ in jobs if not any(s.serves(model, tenant) for s in fleet)]
    statuses = [one.status for one in house.commands if isinstance(one, FinishJob)]
    assert len(statuses) == len(jobs)
    assert statuses.count(Status.FAILED) == len(unserved)


def arrival(number: int, tenant: str, model: str = "base") -> CallArrived:
    return CallArrived(1000.0, number, tenant=tenant, model=model, fresh=ProgramId(f"{tenant}/{number}"))


def test_at_the_door_nobody_elses_calls_go_to_kept_engines_and_who_has_none_is_told_the_fix() -> None:
    door = DoorCore((BASE, FOR_ANN))
    sent = [one for number in range(3) for one in door.handle(arrival(number, "bob")) if isinstance(one, Send)]
    assert {one.engine for one in sent} == {ONE}
    (own,) = [one for one in door.handle(arrival(7, "ann")) if isinstance(one, Send)]
    assert own.engine == OWN
    kept, unknown = (
        refused.failure
        for number, model in enumerate(("base", "none-such"))
        for refused in DoorCore((FOR_ANN,)).handle(arrival(number, "bob", model))
        if isinstance(refused, Refuse)
    )
    assert kept.code == unknown.code == "model_unknown"
    assert "`tenants`" in kept.message
    assert kept.message.replace("base", "none-such") == unknown.message, "nobody learns what others' engines serve"


def test_a_plan_loads_nothing_between_a_model_and_its_adapters() -> None:
    spec = replace(WITH_SQL, served_names={"base": "Llama-3-8B", "sql": "sql-lora"})
    assert spec.weights_of == {"base": "Llama-3-8B", "sql": "Llama-3-8B"}


def test_who_comes_by_another_model_of_the_same_engine_has_saved_nothing_up() -> None:
    """Ann used the adapter for a while; Bob asks for its model, of which nobody had asked before."""
    house = House(BASE, WITH_SQL).tell(EngineLost(0.0, ONE))
    house.usage = LONG
    house.submit("ann", 100, "sql", tenant="ann")
    for _ in range(40):
        house.end_one()
    house.submit("bob", 60, "base", tenant="bob")
    since = len(house.sent)
    for _ in range(40):
        house.end_one()
    had = Counter(one.node.program.split("/")[0] for one in house.sent[since:])
    assert abs(had["ann"] - had["bob"]) <= 4, had
