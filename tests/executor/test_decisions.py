"""Every call can be asked why it went where it went, and what waits why it does."""

import pytest
from live_runs import live_driver, run_live, scripted_fleet, submit

import halo
from executor.commands import Dispatch
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.decisions import MOST_TOLD, decision_of, decode_decision, encode_decision
from executor.drivers.reasons import Reasons, every
from executor.engines.port import EngineSpec, Failure, FailureClass
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.events import BatchPlanned, EngineLost, JobSubmitted, Prepared
from executor.policy.fairness import TenantShare
from executor.policy.routing import EngineView, Offer
from executor.store.memory import MemoryStore
from planner.ir.ids import EngineId, JobId, NodeRef, program_id

JOB = JobId("job")


@halo.llm(model="small", max_tokens=16)
def ask(text: str) -> str:
    return f"Say something about {text}"


@halo.workflow
def two_calls(text: str) -> str:
    return ask(ask(text))


def spec(name: str, max_running: int = 2) -> EngineSpec:
    return EngineSpec(EngineId(name), "scripted", ("small",), gpu="A100", max_running=max_running)


def offer(name: str, *, load_s: float = 0.0, takes_s: float = 1.0, slowness: float = 1.0, running: int = 0) -> Offer:
    view = EngineView(spec(name), running=running, load_s=load_s, slowness=slowness)
    return Offer(view, takes_s, 100, 40, prefill_s=takes_s / 4)


def sent(*offers: Offer, row: int = 0, after: Failure | None = None) -> Dispatch:
    return Dispatch(NodeRef(program_id(JOB, row), "ask"), 0, EngineId("a"), "quickest", offers, after)


def test_seconds_are_told_apart_and_as_corrected_and_the_quickest_come_first():
    decision = decision_of(sent(offer("b", load_s=6.0, running=2), offer("a", load_s=1.0, slowness=2.0)), 0.5)

    first, second = decision.considered
    assert (first.engine, first.queue_s, first.prefill_s, first.decode_s) == ("a", 2.0, 0.5, 1.5)
    assert (first.done_s, first.warm_tokens, first.prompt_tokens, first.room) == (4.0, 40, 100, True)
    assert (second.engine, second.done_s, second.running, second.room) == ("b", 7.0, 2, False)


def test_of_many_engines_the_best_are_told_and_the_one_that_was_taken():
    others = [offer(f"e{number}", load_s=number) for number in range(20)]
    decision = decision_of(sent(*others, offer("a", load_s=99.0)), 0.0)

    assert (decision.engines, len(decision.considered)) == (21, MOST_TOLD)
    assert [one.engine for one in decision.considered][-2:] == ["e6", "a"]


def test_a_decision_is_kept_as_text_and_read_again():
    failure = Failure(FailureClass.ENGINE, "refused", "nobody listens")
    decision = decision_of(sent(offer("a"), offer("b"), after=failure), 0.25)

    assert decision.after == "refused: nobody listens"
    assert decode_decision(encode_decision(decision)) == decision


def test_of_a_large_job_every_nth_program_is_kept_and_whatever_was_tried_again():
    reasons = Reasons(most_programs=10)
    reasons.begin(JOB, 95)
    again = Failure(FailureClass.ENGINE, "refused", "")
    kept = [row for row in range(95) if reasons.sent(JOB, sent(offer("a"), row=row), 0.0, 0.0)]

    assert every(95, 10) == 10
    assert kept == list(range(0, 95, 10))
    assert reasons.sent(JOB, sent(offer("a"), row=7, after=again), 0.0, 0.0)


def test_no_more_is_kept_of_a_job_than_may_be():
    reasons = Reasons(most_decisions=3)
    reasons.begin(JOB, 1)
    again = Failure(FailureClass.ENGINE, "refused", "")
    made = [reasons.sent(JOB, sent(offer("a")), 0.0, 0.0) for _ in range(5)]

    assert [one.number for one in made if one] == [1, 2, 3]
    assert reasons.sent(JOB, sent(offer("a"), after=again), 0.0, 0.0) is not None


@pytest.mark.parametrize("job", ["job", "other"])
def test_kept_by_nobody_who_was_told_not_to(job: str):
    reasons = Reasons(most_programs=0)
    reasons.begin(JobId(job), 1)
    assert reasons.sent(JOB, sent(offer("a")), 0.0, 0.0) is None


async def test_a_run_leaves_why_each_of_its_calls_went_where_it_went():
    store = MemoryStore()
    await run_live(two_calls.plan, [{"text": "x"}], store=store)
    stored = await store.decisions(JOB)

    assert [(one.row, one.path, one.attempt) for one in stored] == [(0, "ask", 1), (0, "ask_2", 1)]
    for one in stored:
        decision = decode_decision(one.detail)
        assert decision.engines == 2
        assert decision.considered[0].engine == decision.engine
        assert decision.considered[0].done_s <= decision.considered[1].done_s
        assert 0.0 <= decision.waited_s < 1.0


async def test_a_call_that_was_tried_again_says_how_the_attempt_before_ended():
    faults = iter([Failure(FailureClass.ENGINE, "overloaded", "come back later")])
    engines = [Scripted(spec(name), Synthetic(), faults=lambda _: next(faults, None)) for name in ("a", "b")]
    store = MemoryStore()
    await run_live(two_calls.plan, [{"text": "x"}], store=store, engines=engines)
    stored = [(one.attempt, decode_decision(one.detail)) for one in await store.decisions(JOB)]

    assert [(attempt, one.after) for attempt, one in stored] == [
        (1, ""),
        (2, "overloaded: come back later"),
        (1, ""),
    ]
    assert stored[0][1].engine != stored[1][1].engine


def ready(core: Scheduler, rows: int) -> None:
    """A job of so many rows, whose first calls are ready."""
    core.handle(JobSubmitted(0.0, JOB, two_calls.plan, rows))
    commands = core.handle(BatchPlanned(0.0, JOB, two_calls.plan, range(rows), {}))
    for command in commands:
        if type(command).__name__ == "Prepare":
            core.handle(Prepared(1.0, command.node, command.attempt, None, 10, 10))


def whys(core: Scheduler) -> list[tuple[int, bool, str]]:
    return [(one.row, one.waits, one.why) for one in core.doings(JOB)]


def test_what_waits_says_why():
    core = Scheduler([spec("a", max_running=1)], Limits(active_programs=2))
    ready(core, 3)

    assert whys(core) == [
        (0, False, "runs"),
        (1, True, "all 1 engines that serve small are full (1 calls)"),
        (2, True, "as many programs run as may (2)"),
    ]


def test_what_failed_and_what_no_engine_serves_say_so():
    core = Scheduler([spec("a", max_running=1)])
    ready(core, 2)
    core.handle(EngineLost(2.0, EngineId("a"), "gone"))

    assert whys(core) == [
        (0, True, "tried again later: engine_lost: engine 'a' was lost: gone"),
        (1, True, "no engine that serves small answers and takes calls"),
    ]


def test_what_waits_for_its_tenant_says_so():
    limits = Limits(active_programs=2, tenants={"small": TenantShare(running=1)})
    core = Scheduler([spec("a", max_running=1)], limits)
    core.handle(JobSubmitted(0.0, JOB, two_calls.plan, 3, tenant="small"))
    core.handle(BatchPlanned(0.0, JOB, two_calls.plan, range(3), {}))
    assert whys(core)[-1] == (2, True, "as many programs of its tenant run as may (1)")

    core.handle(JobSubmitted(1.0, JobId("other"), two_calls.plan, 3, tenant="large"))
    core.handle(BatchPlanned(1.0, JobId("other"), two_calls.plan, range(3), {}))
    why = core.doings(JobId("other"))[-1].why
    assert why.startswith("as many programs run as may (2); 2 tenants wait, and take turns")


def test_nobody_knows_of_a_job_that_is_not_here():
    assert Scheduler([spec("a")]).doings(JOB) == []


async def test_a_driver_tells_what_its_jobs_do_now():
    store = MemoryStore()
    await submit(store, two_calls.plan, [{"text": "x"}])
    async with live_driver(scripted_fleet(), store) as driver:
        assert driver.doings(JOB) == []
